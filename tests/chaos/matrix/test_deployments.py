"""Processes are restarted, or stay away for days: ``make chaos``."""

from __future__ import annotations

import pytest
from fault_lab import FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


def test_rolling_restart(lab: FaultLab) -> None:
    with lab.fault(
        32,
        "every process is restarted under load",
        injected="SIGTERM to one after the other",
        happens="running chunks stop at their next micro-batch, keep what they finished and hand back the rest",
        within_s=15.0,
    ) as fault:
        lab.load(fault, n_items=150)
        for name in (*lab.rig.settings.queues, "control", "dispatcher", "beat", "api"):
            lab.stack.restart(name)
        fault.is_over()
    deaths = "SELECT coalesce(max(worker_deaths), 0) AS n FROM chunks WHERE job_id = ANY(:ids)"
    assert lab.rig.sql(deaths, ids=list(fault.jobs)) == [{"n": 0}]


def test_no_worker_for_three_days(lab: FaultLab) -> None:
    with lab.fault(
        33,
        "no worker for three days",
        injected="workers stopped, FLUSHALL, every time in the rows three days back, workers started",
        happens="nothing has run out; work goes on when a worker is back",
        within_s=30.0,
    ) as fault:
        lab.load(fault)
        queues = lab.rig.settings.queues
        lab.stop_programs(queues)
        with lab.rig.redis() as redis:
            redis.flushall()
        (job_id,) = fault.jobs
        lab.rig.sql("UPDATE jobs SET created_at = created_at - interval '3 days' WHERE id = :id", id=job_id)
        lab.rig.sql("UPDATE chunks SET granted_at = granted_at - interval '3 days' WHERE job_id = :id", id=job_id)
        lab.start_programs(queues)
        fault.is_over()
