"""A process is killed under load: ``make chaos``."""

from __future__ import annotations

import os
import signal

import psutil
import pytest
from fault_lab import KILL_WITHIN_S, FaultLab
from seeded_work import good
from sqlalchemy import text

THE_FINALISER_WAITS = (
    "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT webhook_endpoints.id%'"
)
"""It has written the end of the job and asks who is to be told of it."""

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


def test_no_fault(lab: FaultLab) -> None:
    with lab.fault(
        0, "none", injected="nothing", happens="what the measuring itself takes, under load", within_s=KILL_WITHIN_S
    ) as fault:
        lab.load(fault)
        fault.is_over()


def test_killed_child(lab: FaultLab) -> None:
    with lab.fault(
        1,
        "a device worker's child dies mid-chunk",
        injected="`kill -9` of the child",
        happens="Celery forks another, RabbitMQ gives it the message, it takes the chunk over; one death is counted",
        within_s=KILL_WITHIN_S,
    ) as fault:
        queue = lab.load(fault)["queue"]
        os.kill(lab.rig.child_of(queue), signal.SIGKILL)
        fault.is_over(queue=queue)


def test_killed_worker(lab: FaultLab) -> None:
    with lab.fault(
        2,
        "a whole device worker dies mid-chunk",
        injected="`kill -9` of the parent",
        happens="the child dies with it, the supervisor starts another, which takes the chunk over",
        within_s=KILL_WITHIN_S,
    ) as fault:
        queue = lab.load(fault)["queue"]
        child = psutil.Process(lab.rig.child_of(queue))
        lab.stack.kill(queue)
        fault.is_over(queue=queue)
        lab.stack.wait_until(lambda: not child.is_running(), timeout_s=5, what="the end of the orphaned child")


def test_killed_between_commit_and_acknowledgement(lab: FaultLab) -> None:
    with lab.fault(
        3,
        "a worker dies between its commit and its acknowledgement",
        injected="SIGSTOP to the parent until the chunk is `done`, then `kill -9`",
        happens="the message comes again and finds the chunk done; nothing is computed twice",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.stack.kill(chunk["queue"], signal.SIGSTOP)
        is_done = "SELECT attempt FROM chunks WHERE id = :id AND state = 'done'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(is_done, id=chunk["id"])), timeout_s=20, what="its commit")
        lab.stack.kill(chunk["queue"])
        fault.is_over(queue=chunk["queue"])
    assert lab.rig.sql(is_done, id=chunk["id"]) == [{"attempt": 1}]


def test_killed_before_the_chord_counts(lab: FaultLab) -> None:
    with lab.fault(
        4,
        "a worker dies after its commit and before its chord counts it",
        injected="Redis stopped (SIGSTOP) until the chunk is `done`, then `kill -9` of the child",
        happens="the callback never comes; the dispatcher finishes the job",
        within_s=KILL_WITHIN_S,
    ) as fault:
        chunk = lab.load(fault)
        lab.stack.kill("redis", signal.SIGSTOP)
        is_done = "SELECT 1 FROM chunks WHERE id = :id AND state = 'done'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(is_done, id=chunk["id"])), timeout_s=20, what="its commit")
        os.kill(lab.rig.child_of(chunk["queue"]), signal.SIGKILL)
        lab.stack.kill("redis", signal.SIGCONT)
        fault.is_over()


def test_killed_while_finalising(lab: FaultLab) -> None:
    with lab.fault(
        5,
        "the control worker dies while it closes a job",
        injected="what the finaliser reads last locked until it waits, then `kill -9` of the control worker",
        happens="its transaction is rolled back; the message comes again, or the dispatcher sends it",
        within_s=KILL_WITHIN_S,
    ) as fault:
        items = [good("only", delay_s=1.0)]
        job_id = lab.rig.submit(items)
        fault.jobs[job_id] = items
        chunk = lab.rig.wait_until_running(job_id)
        with lab.rig.wiring.database.begin() as connection:
            connection.execute(text("LOCK TABLE webhook_endpoints IN ACCESS EXCLUSIVE MODE"))
            lab.stack.wait_until(lambda: bool(lab.rig.sql(THE_FINALISER_WAITS)), timeout_s=20, what="the finaliser")
            lab.stack.kill("control")
        fault.is_over()
    assert chunk["job_id"] == job_id


@pytest.mark.parametrize(
    ("row", "process", "happens"),
    [
        (5, "control", "prepare and finish are tokens and locks in Postgres; the dispatcher sends them again"),
        (
            6,
            "dispatcher",
            "its advisory lock ends with its session; the successor counts and publishes what is missing",
        ),
        (
            7,
            "rabbitmq",
            "jobs are accepted; running chunks are committed; what was published again finds its chunk done",
        ),
        (12, "redis", "waves go out without chords; the dispatcher finishes the jobs"),
        (13, "postgres", "the API answers 503; running chunks are committed when it is back"),
        (14, "s3", "uploads answer 503; chunks are handed back and granted again"),
        (21, "beat", "nothing waits for it"),
        (2, "api", "a job is one commit: it is there or it is not"),
        (2, "flower", "nothing waits for it"),
    ],
)
def test_killed_process(lab: FaultLab, row: int, process: str, happens: str) -> None:
    with lab.fault(
        row, f"{process} dies", injected="`kill -9` under load", happens=happens, within_s=_limit_of(process)
    ) as fault:
        lab.load(fault)
        pid = lab.stack.kill(process)
        fault.is_over()
        lab.stack.wait_for_new_pid(process, pid)


def _limit_of(process: str) -> float:
    """Servers start in their own time."""
    return 30.0 if process in {"rabbitmq", "s3"} else KILL_WITHIN_S


def test_killed_in_the_middle_of_a_wave(lab: FaultLab) -> None:
    with lab.fault(
        6,
        "the dispatcher dies in the middle of publishing a wave",
        injected="the proxy lets 300 more bytes of each connection to RabbitMQ through; `kill -9` when grants wait",
        happens="the successor finds fewer messages than grants and publishes again after the grant patience (5 s)",
        within_s=20.0,
    ) as fault:
        lab.load(fault)
        lab.stack.proxies["rabbitmq"].stall(300)
        overdue = "SELECT 1 FROM chunks WHERE state = 'granted' AND granted_at < now() - interval '3 seconds'"
        lab.stack.wait_until(lambda: bool(lab.rig.sql(overdue)), timeout_s=30, what="a grant that nobody got")
        lab.stack.kill("dispatcher")
        lab.stack.proxies["rabbitmq"].heal()
        lab.stack.proxies["rabbitmq"].cut()
        fault.is_over()
