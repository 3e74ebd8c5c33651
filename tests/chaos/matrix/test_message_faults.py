"""Messages come twice, leases go stale, items kill: ``make chaos``."""

from __future__ import annotations

import signal

import pytest
from fault_lab import KILL_WITHIN_S, FaultLab
from seeded_work import crashing, good

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


def test_stale_worker(lab: FaultLab) -> None:
    with lab.fault(
        16,
        "a frozen worker wakes after its lease",
        injected="SIGSTOP to a worker until another took its chunk over, then SIGCONT",
        happens="its lease (30 s) runs out, the chunk is granted elsewhere; what the stale worker writes is refused",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault, delay_s=0.2)
        lab.signal_worker(chunk["queue"], signal.SIGSTOP)
        taken = "SELECT 1 FROM chunks WHERE id = :id AND attempt > :attempt"
        lab.stack.wait_until(
            lambda: bool(lab.rig.sql(taken, id=chunk["id"], attempt=chunk["attempt"])), timeout_s=60, what="a take-over"
        )
        lab.signal_worker(chunk["queue"], signal.SIGCONT)
        fault.is_over()


def test_poison(lab: FaultLab) -> None:
    with lab.fault(
        17,
        "an item kills its worker each time",
        injected="an item that segfaults",
        happens="after two deaths the chunk is halved until the item stands alone and fails as `worker_crash`",
        within_s=KILL_WITHIN_S,
    ) as fault:
        items = [good("a"), good("b"), crashing("poison"), good("c")]
        job_id = lab.rig.submit(items)
        lab.stack.wait_until(lambda: lab.rig.has_ended(job_id), timeout_s=120, what="the poison's conviction")
        fault.jobs[job_id] = items
        fault.is_over()


def test_duplicates(lab: FaultLab) -> None:
    with lab.fault(
        15,
        "a message comes four times",
        injected="published three times by hand while its chunk runs",
        happens="one run; the others find nothing to do",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.rig.send_again(chunk, times=3)
        fault.is_over()
    assert lab.rig.sql("SELECT attempt FROM chunks WHERE id = :id", id=chunk["id"]) == [{"attempt": 1}]
