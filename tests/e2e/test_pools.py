"""Devices that are drained, hosts that join a running stack and vanish, and work that waits for a worker."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chaos_rig import ChaosRig
from click.testing import CliRunner
from joined_worker import joined_worker
from running_stack import RunningStack
from seeded_work import good

from app.cli import main
from app.wiring import build_wiring
from config.settings import Settings

SLOW = [good(f"slow-{number}", delay_s=0.4) for number in range(40)]
JOINED = "cpu.7"
HOST = "host-b"
JOINS_WITHIN_S = 60


@pytest.fixture(scope="module")
def wired(running_stack: RunningStack) -> Iterator[ChaosRig]:
    """The stack with a way into its rows."""
    wiring = build_wiring(Settings.from_environ(running_stack.settings))
    yield ChaosRig(running_stack, wiring)
    wiring.database.close()


@pytest.fixture
def rig(stack: RunningStack, wired: ChaosRig) -> Iterator[ChaosRig]:
    """A stack with nothing drained, before and after."""
    assert stack is wired.stack
    yield wired
    wired.sql("DELETE FROM drains")
    wired.sql("DELETE FROM workers WHERE queue = :queue", queue=JOINED)


@pytest.fixture
def nightshift(rig: ChaosRig, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """The command, as the operator of this stack calls it; gives the JSON it prints."""
    for name, value in rig.stack.env.items():
        monkeypatch.setenv(name, value)

    def call(*arguments: str) -> Any:
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return call


def state_of(nightshift: Callable[..., Any], queue: str) -> str | None:
    listed = {worker["queue"]: worker for worker in nightshift("workers", "list")["data"]}
    return listed[queue]["state"] if queue in listed else None


def ran_on(rig: ChaosRig, job_id: str) -> dict[str, int]:
    """Chunks of a job that each queue's worker finished."""
    rows = rig.sql(
        "SELECT queue, count(*) AS n FROM chunks WHERE job_id = :id AND state = 'done' GROUP BY queue", id=job_id
    )
    return {row["queue"]: row["n"] for row in rows}


def test_a_drained_device_finishes_its_chunk_takes_no_more_and_comes_back(
    rig: ChaosRig, nightshift: Callable[..., Any]
) -> None:
    job_id = rig.submit(SLOW, chunks="many")
    running = rig.wait_until_running(job_id)
    drained = running["queue"]
    answer = nightshift("workers", "drain", drained)
    assert answer["state"] in {"draining", "drained"}
    assert answer["n_waiting"] == 0
    rig.stack.wait_until(
        lambda: state_of(nightshift, drained) == "drained", timeout_s=20, what=f"{drained} runs nothing any more"
    )
    finished = rig.sql("SELECT state, queue, attempt FROM chunks WHERE id = :id", id=running["id"])
    assert finished == [{"state": "done", "queue": drained, "attempt": 1}], "the drain cut its last chunk short"
    before = ran_on(rig, job_id)[drained]
    rig.stack.restart(drained)
    rig.wait_until_ended(job_id)
    assert ran_on(rig, job_id)[drained] == before, "the drained worker ran another chunk"
    assert state_of(nightshift, drained) == "drained", "the drain did not outlive the process"
    nightshift("workers", "undrain", drained)
    again = rig.submit(SLOW, chunks="many")
    rig.check(again, SLOW)
    rig.check(job_id, SLOW)
    assert ran_on(rig, again)[drained] > 0


def test_work_without_a_worker_waits_and_goes_on_by_itself(rig: ChaosRig, nightshift: Callable[..., Any]) -> None:
    for queue in rig.settings.queues:
        nightshift("workers", "drain", queue)
    items = [good("patient")]
    job_id = rig.submit(items)
    rig.stack.wait_until(lambda: rig.state(job_id) == "queued", timeout_s=20, what="the job is planned")
    with rig.stack.client() as client:
        sync = client.post("/v1/embeddings", json={"model": "all-MiniLM-L6-v2", "input": "x"})
        assert (sync.status_code, sync.json()["error"]["code"]) == (503, "no_worker_for_model")
    for queue in rig.settings.queues:
        nightshift("workers", "undrain", queue)
    rig.check(job_id, items)


def test_a_host_joins_a_running_stack_takes_its_share_and_vanishes(
    rig: ChaosRig, nightshift: Callable[..., Any], tmp_path: Path
) -> None:
    dispatcher = rig.stack.pid("dispatcher")
    job_id = rig.submit(SLOW, chunks="many")
    with joined_worker(rig.stack.settings, tmp_path, queue=JOINED, host=HOST) as joined:
        rig.stack.wait_until(
            lambda: state_of(nightshift, JOINED) == "live", timeout_s=JOINS_WITHIN_S, what=f"{JOINED} is live"
        )
        more = rig.submit(SLOW, chunks="many")
        rig.stack.wait_until(
            lambda: bool(rig.sql("SELECT 1 FROM chunks WHERE queue = :queue AND state = 'running'", queue=JOINED)),
            timeout_s=JOINS_WITHIN_S,
            what=f"{JOINED} runs a chunk",
        )
        joined.kill()
        rig.check(job_id, SLOW)
        rig.check(more, SLOW)
    rig.stack.wait_until(
        lambda: state_of(nightshift, JOINED) == "silent", timeout_s=JOINS_WITHIN_S, what=f"{JOINED} is silent"
    )
    assert rig.stack.pid("dispatcher") == dispatcher, "the dispatcher had to be restarted"


def test_a_second_live_worker_on_a_queue_is_refused_whichever_host_it_is_on(
    rig: ChaosRig, nightshift: Callable[..., Any], tmp_path: Path
) -> None:
    settings = rig.stack.settings
    with joined_worker(settings, tmp_path, queue=JOINED, host=HOST):
        rig.stack.wait_until(
            lambda: state_of(nightshift, JOINED) == "live", timeout_s=JOINS_WITHIN_S, what=f"{JOINED} is live"
        )
        for folder in ("other-host", "twin"):
            (tmp_path / folder).mkdir()
        with joined_worker(settings, tmp_path / "other-host", queue=JOINED, host="host-c") as elsewhere:
            assert elsewhere.ends_with() == 2
            assert f"{JOINED} is served by a live worker on the host {HOST}" in elsewhere.log
        with joined_worker(settings, tmp_path / "twin", queue=JOINED, host=HOST, TMPDIR=str(tmp_path)) as twin:
            assert twin.ends_with() == 2
            assert f"{JOINED} is served by process" in twin.log
        assert state_of(nightshift, JOINED) == "live"


@pytest.mark.parametrize(
    ("queue", "said"), [("moon.0", "the pools there are cpu, gpu"), ("cpu", "a pool, a dot and a number")]
)
def test_a_queue_on_which_no_work_could_come_is_refused(rig: ChaosRig, tmp_path: Path, queue: str, said: str) -> None:
    with joined_worker(rig.stack.settings, tmp_path, queue=queue, host=HOST, NIGHTSHIFT_QUEUES="cpu.0") as refused:
        assert refused.ends_with() == 2
        assert said in refused.log
        assert "Traceback" not in refused.log
