"""``GET .../events`` over real connections: many who listen leave the API to those who ask."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest
from api_process import api_process
from core_machine import CoreMachine, core_machine
from seeded_work import good

from app.services.cancel_job import cancel_job
from app.services.create_api_key import create_api_key
from app.services.retry_job import retry_job

N_LISTENERS = 200
"""As many as one tenant may have: half of all."""
THREADS = 4
Event = dict[str, Any]


@pytest.fixture(scope="module")
def core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core in which nothing runs but what a test turns, with chunks of two items."""
    with core_machine(servers, chunk_max_items=2) as machine:
        yield machine


@pytest.fixture(scope="module")
def key(core: CoreMachine) -> str:
    return create_api_key(wiring=core.wiring, tenant="tester").key


@pytest.fixture(scope="module")
def url(core: CoreMachine, servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One gunicorn process with few threads before it."""
    settings = {
        **servers,
        "NIGHTSHIFT_DATABASE_URL": core.wiring.settings.database_url,
        "NIGHTSHIFT_API_THREADS": str(THREADS),
        "NIGHTSHIFT_EVENT_LISTENERS": str(2 * N_LISTENERS),  # half of them of one tenant,
    }
    with api_process(settings, tmp_path_factory.mktemp("api")) as address:
        yield address


@pytest.fixture
def client(url: str, key: str) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=10, trust_env=False) as made:
        yield made


class Listening:
    """A listener that reads when it is told to."""

    def __init__(self, client: httpx.Client, path: str, *, last: str | None = None, version: str = "1.1") -> None:
        address = urlsplit(str(client.base_url))
        self.connection = socket.create_connection((address.hostname, address.port), timeout=10)
        mark = f"Last-Event-ID: {last}\r\n" if last else ""
        head = f"GET {path} HTTP/{version}\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n{mark}\r\n"
        self.connection.sendall(head.encode())
        self.stream = self.connection.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        lines = iter(self.stream.readline, b"\r\n")
        self.headers = dict(line.decode().strip().lower().split(": ", 1) for line in lines)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stream.close()
        self.connection.close()

    def next_event(self) -> Event | None:
        """The next event; None at the end. What lies between is framing and comments."""
        event: Event = {}
        for raw in self.stream:
            name, _, value = raw.decode().strip().partition(": ")
            if name in {"event", "id"}:
                event[name] = value
            elif name == "data":
                return {**event, "data": json.loads(value)}
        return None

    def until(self, kind: str) -> list[Event]:
        """Events up to the first of a kind."""
        found = []
        while (event := self.next_event()) is not None:
            found.append(event)
            if event["event"] == kind:
                return found
        raise AssertionError(f"the stream ended without {kind}: {found}")


def submitted(core: CoreMachine, n_items: int = 4) -> str:
    return core.planned([good(f"item-{n}") for n in range(n_items)])


def cancelled(core: CoreMachine, job_id: str) -> None:
    cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    core.drive(job_id)


def test_a_listener_hears_everything_up_to_the_end_and_then_the_stream_ends(
    core: CoreMachine, client: httpx.Client
) -> None:
    job_id = submitted(core)
    with Listening(client, f"/v1/jobs/{job_id}/events") as listening:
        assert (listening.status, listening.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert listening.next_event() == {
            "event": "state",
            "id": str(core.sql("SELECT max(id) AS id FROM events WHERE job_id = :id", id=job_id)[0]["id"]),
            "data": {"id": job_id, "state": "queued"},
        }
        core.drive(job_id)
        events = listening.until("done")
        assert [event["event"] for event in events].count("chunk") == 2
        assert events[-1]["data"]["counts"]["succeeded"] == 4
        assert listening.next_event() is None


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_stream_is_well_framed_for_old_and_new_clients(
    core: CoreMachine, client: httpx.Client, version: str
) -> None:
    job_id = submitted(core)
    core.drive(job_id)
    with Listening(client, f"/v1/jobs/{job_id}/events", version=version) as listening:
        assert ("transfer-encoding" in listening.headers) == (version == "1.1")
        assert listening.until("done")[-1]["data"]["state"] == "succeeded"
        assert listening.next_event() is None
    with client.stream("GET", f"/v1/jobs/{job_id}/events") as response:
        assert b"".join(response.iter_bytes()).endswith(b"\n\n")  # httpx has checked the chunks


def test_whoever_was_cut_off_goes_on_where_they_were(core: CoreMachine, client: httpx.Client) -> None:
    job_id = submitted(core, 8)
    path = f"/v1/jobs/{job_id}/events"
    with Listening(client, path, last="0") as listening:
        chunks = core.granted(job_id)
        core.run(chunks[0])
        heard = listening.until("chunk")
    for chunk_id in chunks[1:]:
        core.run(chunk_id)
    core.drive(job_id)
    with Listening(client, path, last=heard[-1]["id"]) as listening:
        heard += listening.until("done")
    with Listening(client, path, last="0") as listening:
        whole = listening.until("done")
    told = [[event for event in events if event["event"] in {"state", "chunk"}] for events in (heard, whole)]
    assert told[0] == told[1]


def test_a_browser_that_heard_the_end_is_told_not_to_come_back(core: CoreMachine, client: httpx.Client) -> None:
    job_id = submitted(core)
    cancelled(core, job_id)
    with Listening(client, f"/v1/jobs/{job_id}/events") as listening:
        last = listening.until("done")[-1]["id"]
    assert client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": last}).status_code == 204
    retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    with Listening(client, f"/v1/jobs/{job_id}/events", last=last) as listening:
        assert listening.next_event()["data"]["state"] == "queued"  # type: ignore[index]
    core.drive(job_id)


def test_a_group_is_listened_to(core: CoreMachine, client: httpx.Client) -> None:
    group_id = core.submit_group(b"".join(good(f"item-{n}").line() for n in range(4)), model="echo")
    with Listening(client, f"/v1/groups/{group_id}/events") as listening:
        assert listening.next_event()["data"]["state"] == "validating"  # type: ignore[index]
        core.drive_group(group_id)
        assert listening.until("done")[-1]["data"]["counts"]["succeeded"] == 4


def test_bad_requests_are_answered_as_ever(core: CoreMachine, client: httpx.Client) -> None:
    job_id = submitted(core)
    bad = client.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": "x"})
    assert (bad.status_code, bad.json()["error"]["param"]) == (400, "Last-Event-ID")
    assert client.get("/v1/jobs/job_x/events").status_code == 404
    assert client.get("/v1/groups/group_x/events").status_code == 404
    assert client.head(f"/v1/jobs/{job_id}/events").status_code == 200
    cancelled(core, job_id)


def test_two_hundred_who_listen_leave_the_api_to_those_who_ask(core: CoreMachine, client: httpx.Client) -> None:
    other_key = create_api_key(wiring=core.wiring, tenant="other").key
    job_id = submitted(core)
    path = f"/v1/jobs/{job_id}/events"
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listening(client, path)) for _ in range(N_LISTENERS)]
        for listening in listeners:
            listening.until("progress")
        full = client.get(path)
        assert (full.status_code, full.json()["error"]["code"]) == (503, "too_many_listeners")
        assert int(full.headers["retry-after"]) > 0
        assert client.get(path, headers={"Authorization": f"Bearer {other_key}"}).status_code == 404  # it has room
        began_s = time.monotonic()
        for _ in range(50):
            assert client.get(f"/v1/jobs/{job_id}").status_code == 200
        assert time.monotonic() - began_s < 10
        core.drive(job_id)
        for listening in listeners:
            assert listening.until("done")[-1]["data"]["state"] == "succeeded"
            assert listening.next_event() is None
    with Listening(client, path) as listening:
        listening.until("done")


def test_those_who_hang_up_make_room(core: CoreMachine, client: httpx.Client) -> None:
    job_id = submitted(core)
    path = f"/v1/jobs/{job_id}/events"
    for _ in range(2):
        with ExitStack() as stack:
            listeners = [stack.enter_context(Listening(client, path)) for _ in range(N_LISTENERS)]
            for listening in listeners:
                listening.until("state")
        deadline_s = time.monotonic() + 10
        while client.head(path).status_code == 503:
            assert time.monotonic() < deadline_s, "those who left are still counted"
            time.sleep(0.05)
    cancelled(core, job_id)


def test_listening_goes_on_when_the_database_was_away_for_a_moment(core: CoreMachine, client: httpx.Client) -> None:
    job_id = submitted(core)
    with Listening(client, f"/v1/jobs/{job_id}/events") as listening:
        listening.until("progress")
        ended = core.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightshift-events'"
            " AND datname = current_database()"
        )
        assert ended
        core.drive(job_id)
        assert listening.until("done")[-1]["data"]["state"] == "succeeded"
