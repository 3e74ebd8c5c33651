"""Each fault in the middle of a job, then the checker: nothing is lost, nothing is doubled."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from chaos_rig import ChaosRig
from seeded_work import good, mixed, retried

SLOW = [good(f"slow-{number}", delay_s=0.05) for number in range(40)]
WAVES = [*(good(f"wave-{number}", delay_s=0.05) for number in range(30)), *mixed(20, seed=11)]


def test_a_killed_child_is_followed_by_another_that_takes_its_chunk_over(rig: ChaosRig) -> None:
    job_id = rig.submit(SLOW)
    chunk = rig.wait_until_running(job_id)
    os.kill(rig.child_of(chunk["queue"]), signal.SIGKILL)
    rig.check(job_id, SLOW)
    (after,) = rig.sql("SELECT attempt, worker_deaths FROM chunks WHERE job_id = :id", id=job_id)
    assert after["attempt"] >= 2
    assert after["worker_deaths"] == 1


def test_a_killed_worker_leaves_no_child_behind_and_its_successor_goes_on(rig: ChaosRig) -> None:
    job_id = rig.submit(SLOW)
    chunk = rig.wait_until_running(job_id)
    child = psutil.Process(rig.child_of(chunk["queue"]))
    pid = rig.stack.kill(chunk["queue"])
    rig.stack.wait_until(lambda: not child.is_running(), timeout_s=5, what="the end of the orphaned child")
    rig.stack.wait_for_new_pid(chunk["queue"], pid)
    rig.check(job_id, SLOW)


def test_lost_chord_callbacks_are_made_up_for(rig: ChaosRig) -> None:
    job_id = rig.submit(WAVES, chunks="many")
    rig.wait_until_running(job_id)
    with rig.redis() as counters:
        rig.stack.wait_until(lambda: bool(counters.keys("*taskset*")), timeout_s=20, what="a chord's counter")
        # Empty it for as long as the job lasts: no wave but those of one chunk, which need no counter, is called back.
        rig.stack.wait_until(
            lambda: bool(counters.flushall()) and rig.has_ended(job_id), timeout_s=60, what="the end of the job"
        )
    rig.check(job_id, WAVES)


def test_the_same_message_many_times_has_one_effect(rig: ChaosRig) -> None:
    job_id = rig.submit(SLOW)
    chunk = rig.wait_until_running(job_id)
    rig.send_again(chunk, times=3)
    rig.check(job_id, SLOW)
    rig.send_again(chunk, times=3)
    again = rig.submit([good("behind")])
    rig.check(again, [good("behind")])
    rig.check(job_id, SLOW)
    assert rig.sql("SELECT attempt FROM chunks WHERE job_id = :id", id=job_id) == [{"attempt": 1}]


def test_a_purged_queue_is_filled_again(rig: ChaosRig) -> None:
    job_id = rig.submit(WAVES, chunks="many")
    rig.wait_until_running(job_id)
    rig.stack.wait_until(lambda: rig.purge_device_queues() > 0, timeout_s=20, what="a message to throw away")
    rig.check(job_id, WAVES)


@pytest.mark.parametrize("process", ["dispatcher", "control"])
def test_a_killed_process_is_started_again_and_the_job_goes_on(rig: ChaosRig, process: str) -> None:
    items = [*WAVES, retried("twice", fail_times=2)]
    job_id = rig.submit(items, chunks="many")
    rig.wait_until_running(job_id)
    pid = rig.stack.kill(process)
    late = rig.submit([good("late")])  # accepted while the process is away
    rig.stack.wait_for_new_pid(process, pid)
    rig.check(job_id, items)
    rig.check(late, [good("late")])
