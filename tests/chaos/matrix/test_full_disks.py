"""A server's disk is full under load, then freed: ``make chaos``, as root."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from fault_lab import FaultLab
from seeded_work import good
from small_disk import SmallDisk, small_disk

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(420)]
SPARE_MIB = 48
FULL_S = 15
STORE_GIVES_UP_S = 180.0
"""A store whose disk is full may let an upload hang: four tries of ``NIGHTSHIFT_STORAGE_TIMEOUT_S``, then a pause."""

MakeDisk = Callable[[str], SmallDisk]


@pytest.fixture
def put_on_small_disk(lab: FaultLab) -> Iterator[MakeDisk]:
    """Move a server's data to a small disk; it is back on its own afterwards."""
    with ExitStack() as cleanup:

        def put(server: str) -> SmallDisk:
            cleanup.callback(lab.start_programs, [server])
            lab.stop_programs([server])
            disk = cleanup.enter_context(small_disk(lab.stack.stack.home.data / server, spare_mib=SPARE_MIB))
            cleanup.callback(lab.stop_programs, [server])
            lab.start_programs([server])
            lab.stack.wait_until_ready()
            return disk

        yield put
    lab.stack.wait_until_ready()


@pytest.mark.parametrize(
    ("server", "happens"),
    [
        ("postgres", "what would write answers 503 with Retry-After; chunks are committed or granted again afterwards"),
        ("s3", "uploads answer 503 with Retry-After, chunks are handed back; no object is there by half"),
    ],
)
def test_full_disk(lab: FaultLab, put_on_small_disk: MakeDisk, server: str, happens: str) -> None:
    disk = put_on_small_disk(server)
    with lab.fault(
        19,
        f"the disk under {server} is full",
        injected=f"its data on a tmpfs, filled to the last byte for {FULL_S} s (needs root)",
        happens=happens,
        within_s=60.0,
        ends_within_s=STORE_GIVES_UP_S,
    ) as fault:
        lab.load(fault)
        disk.fill()
        ends_at_s = time.monotonic() + FULL_S
        answers = []
        while time.monotonic() < ends_at_s:
            answers.append(_submit_much(lab))
            disk.fill()  # what a server gave back of its own
            time.sleep(0.2)
        disk.free()
        lab.stack.wait_until(lambda: _takes_writes(lab), timeout_s=150, what=f"{server} to take writes again by itself")
        fault.is_over()
    refused = [answer for answer in answers if answer.status_code != httpx.codes.ACCEPTED]
    assert refused, "the disk was never full"
    assert {(answer.status_code, "Retry-After" in answer.headers) for answer in refused} == {(503, True)}
    for answer in answers:
        if answer.status_code == httpx.codes.ACCEPTED:  # accepted is durable, on a full disk too
            lab.rig.wait_until_ended(answer.json()["id"])
            assert lab.rig.state(answer.json()["id"]) == "succeeded"


def _takes_writes(lab: FaultLab) -> bool:
    return _submit_much(lab).status_code == httpx.codes.ACCEPTED


def _submit_much(lab: FaultLab) -> httpx.Response:
    """Submit a job that takes a megabyte in the object store and new pages in Postgres."""
    body = {**good("large").body, "input": "x" * 2**20}
    request = {"endpoint": "/v1/echo", "model": "echo", "inputs": [{"custom_id": "large", "body": body}]}
    metadata = {f"key-{number}": secrets.token_hex(250) for number in range(16)}
    with lab.stack.client() as client:
        return client.post("/v1/jobs", json={**request, "metadata": metadata})
