"""Redis goes, is emptied, or refuses: ``make chaos``."""

from __future__ import annotations

import time

import pytest
from fault_lab import KILL_WITHIN_S, FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]


def test_redis_flushed(lab: FaultLab) -> None:
    with (
        lab.fault(
            12,
            "Redis is emptied",
            injected="FLUSHALL again and again while the job runs",
            happens="callbacks are lost; the dispatcher finishes the job",
            within_s=KILL_WITHIN_S,
        ) as fault,
        lab.rig.redis() as counters,
    ):
        lab.load(fault)
        (job_id,) = fault.jobs
        lab.stack.wait_until(
            lambda: bool(counters.flushall()) and lab.rig.has_ended(job_id), timeout_s=60, what="the job's end"
        )
        fault.is_over()


@pytest.mark.parametrize("kind", ["refuses", "black hole"])
def test_redis_away(lab: FaultLab, kind: str) -> None:
    with lab.fault(
        12,
        f"Redis is away for 30 s: {kind}",
        injected="the proxy",
        happens="jobs run and end while it is away",
        within_s=KILL_WITHIN_S,
    ) as fault:
        lab.load(fault)
        proxy = lab.stack.proxies["redis"]
        proxy.refuse() if kind == "refuses" else proxy.black_hole()
        away_until_s = time.monotonic() + 30
        for job_id, items in fault.jobs.items():
            lab.rig.check(job_id, items)
        time.sleep(max(0.0, away_until_s - time.monotonic()))
        proxy.heal()
        fault.is_over()


def test_redis_full(lab: FaultLab) -> None:
    with (
        lab.fault(
            12,
            "Redis refuses every write",
            injected="`CONFIG SET maxmemory 1` for the length of a job",
            happens="waves go out without chords; the job ends",
            within_s=KILL_WITHIN_S,
        ) as fault,
        lab.rig.redis() as redis,
    ):
        redis.config_set("maxmemory", 1)
        try:
            lab.load(fault)
            for job_id, items in fault.jobs.items():
                lab.rig.check(job_id, items)
        finally:
            redis.config_set("maxmemory", 512 * 2**20)
        fault.is_over()
