"""The object store fails under an upload and under a download: the client is told, or sees the transfer break off.

Never is a short answer taken for a whole one, and never is a file there whose content is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import pytest
from api_process import api_process
from chaos.fault_proxy import FaultProxy
from core_machine import CoreMachine, core_machine

from app.domain.jobs import Dialect
from app.services.create_api_key import create_api_key

MIB = 2**20
BUSY = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
FULL = b"HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
N_ITEMS = 12
TEXT = "long " * 60_000

Fault = Callable[[FaultProxy], None]
FAULTS: dict[str, Fault] = {
    "refuses": lambda proxy: proxy.refuse(),
    "answers 500": lambda proxy: proxy.say(BUSY),
    "is full": lambda proxy: proxy.say(FULL),
    "falls silent": lambda proxy: proxy.black_hole(),
    "hears and does not answer": lambda proxy: proxy.hold_answers(),
    "cuts answers at once": lambda proxy: proxy.truncate(10),
    "cuts answers in the middle": lambda proxy: proxy.truncate(700_000),
}


@dataclass(frozen=True)
class Front:
    """An API whose object store is reached through a proxy, and the core behind it."""

    core: CoreMachine
    proxy: FaultProxy
    client: httpx.Client


@pytest.fixture(scope="module")
def module_front(servers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    port = urlsplit(servers["NIGHTSHIFT_S3_ENDPOINT"]).port
    assert port is not None
    with core_machine(servers, chunk_max_items=4) as core, FaultProxy(port) as proxy:
        settings = {
            **servers,
            "NIGHTSHIFT_DATABASE_URL": core.wiring.settings.database_url,
            "NIGHTSHIFT_S3_ENDPOINT": f"http://127.0.0.1:{proxy.port}",
            "NIGHTSHIFT_STORAGE_TIMEOUT_S": "0.4",
        }
        key = create_api_key(wiring=core.wiring, tenant="tester").key
        with (
            api_process(settings, tmp_path_factory.mktemp("api")) as url,
            httpx.Client(
                base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60, trust_env=False
            ) as client,
        ):
            yield Front(core, proxy, client)


@pytest.fixture
def front(module_front: Front) -> Iterator[Front]:
    module_front.proxy.heal()
    yield module_front
    module_front.proxy.heal()


@pytest.fixture(scope="module")
def finished(module_front: Front) -> dict[str, bytes]:
    """Path -> what it answers with while all is well: results of a native job and of a batch, both of some MB."""
    core = module_front.core
    line = b'{"custom_id": "%d", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "%s"}}\n'
    content = b"".join(line % (number, TEXT.encode()) for number in range(N_ITEMS))
    batch = core.submit_content(content)
    native = core.submit_content(content, dialect=Dialect.NATIVE)
    paths = []
    for job_id in (batch, native):
        core.drive(job_id)
        paths.append(f"/v1/jobs/{job_id}/results")
    output = module_front.client.get(f"/v1/batches/{batch.replace('job_', 'batch_')}").json()["output_file_id"]
    paths += [f"/v1/files/{output}/content", f"/v1/jobs/{batch}/results?limit=5", f"/v1/jobs/{batch}/results/7"]
    return {path: module_front.client.get(path).raise_for_status().content for path in paths}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_download_is_refused_or_breaks_off_and_never_comes_short_as_if_it_was_whole(
    front: Front, finished: dict[str, bytes], kind: str
) -> None:
    for path, whole in finished.items():
        FAULTS[kind](front.proxy)
        try:
            answer = front.client.get(path)
        except httpx.RemoteProtocolError:
            answer = None  # the client sees that it broke off
        if answer is not None and answer.status_code == httpx.codes.OK:
            assert answer.content == whole, f"{path}: {len(answer.content)} of {len(whole)} bytes, and nothing was said"
        elif answer is not None:
            assert_told(answer)
        front.proxy.heal()
    for path, whole in finished.items():
        assert front.client.get(path).content == whole


def test_a_download_over_a_slow_store_comes_whole(front: Front, finished: dict[str, bytes]) -> None:
    front.proxy.delay(0.02)
    for path, whole in finished.items():
        assert front.client.get(path).content == whole


@pytest.mark.parametrize("when", ["before it", "in the middle of it"])
@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "cuts answers in the middle"])
def test_an_upload_is_refused_with_a_time_to_come_back_and_leaves_no_file(front: Front, kind: str, when: str) -> None:
    before = ids(front)

    def fail() -> None:
        FAULTS[kind](front.proxy)

    refused = upload(front, fail if when == "in the middle of it" else None, fail if when == "before it" else None)
    assert_told(refused)
    front.proxy.heal()
    assert ids(front) == before
    again = upload(front)
    assert again.raise_for_status().json()["bytes"] == 20 * MIB
    assert len(front.client.get(f"/v1/files/{again.json()['id']}/content").content) == 20 * MIB


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "cuts answers in the middle"])
def test_a_job_whose_items_cannot_be_stored_is_refused_and_is_not_there(front: Front, kind: str) -> None:
    jobs = len(front.client.get("/v1/jobs").json()["data"])
    FAULTS[kind](front.proxy)
    request = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a", "b"]}
    assert_told(front.client.post("/v1/jobs", json=request))
    front.proxy.heal()
    assert len(front.client.get("/v1/jobs").json()["data"]) == jobs
    front.client.post("/v1/jobs", json=request).raise_for_status()


def assert_told(answer: httpx.Response) -> None:
    assert answer.status_code == httpx.codes.SERVICE_UNAVAILABLE, answer.text[:300]
    assert 0 < int(answer.headers["Retry-After"]) <= 120
    assert answer.json()["error"]["retryable"] is True


def ids(front: Front) -> list[str]:
    return [file["id"] for file in front.client.get("/v1/files").raise_for_status().json()["data"]]


def upload(
    front: Front, in_the_middle: Callable[[], None] | None = None, at_once: Callable[[], None] | None = None
) -> httpx.Response:
    """Send 20 MB, which the store gets in three parts."""

    def pieces() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
        for number in range(20):
            if number == 14 and in_the_middle:
                in_the_middle()
            yield b"x" * MIB
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'

    if at_once:
        at_once()
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    return front.client.post("/v1/files", content=pieces(), headers=headers)
