"""A process's clock is wrong: ``make chaos``, where libfaketime is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fault_lab import KILL_WITHIN_S, FaultLab

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]
# Within what the object store accepts of a signature; beyond a quarter of an hour it refuses, see docs/reliability.md.
OFF_BY = "10m"


@contextmanager
def false_clock(lab: FaultLab, name: str, shift: str) -> Iterator[None]:
    """Run one process of the stack on a clock of its own."""
    found = sorted(Path("/usr/lib").rglob("libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is not installed (`apt install faketime`); these rows need it")
    script = lab.stack.stack.home.run / f"{name}.sh"
    true = script.read_text(encoding="utf-8")
    lies = f"set -e\nexport LD_PRELOAD={found[0]} FAKETIME={shift} FAKETIME_DONT_FAKE_MONOTONIC=1\n"
    script.write_text(true.replace("set -e\n", lies, 1), encoding="utf-8")
    try:
        lab.stack.restart(name)
        yield
    finally:
        script.write_text(true, encoding="utf-8")
        lab.stack.restart(name)


@pytest.mark.parametrize("shift", [f"-{OFF_BY}", f"+{OFF_BY}"])
@pytest.mark.parametrize("process", ["cpu.0", "control", "dispatcher", "api", "beat"])
def test_clock_off(lab: FaultLab, process: str, shift: str) -> None:
    with lab.fault(
        20,
        f"the clock of {process} is off by {shift}",
        injected="libfaketime in that process",
        happens="nothing: leases and windows are compared by Postgres's clock",
        within_s=KILL_WITHIN_S,
    ) as fault:
        with false_clock(lab, process, shift):
            lab.stack.wait_until_ready()
            lab.wait_for_workers()
            lab.load(fault)
            (job_id,) = fault.jobs
            lab.rig.check(job_id, fault.jobs[job_id])
        lab.wait_for_workers()
        fault.is_over()
    deaths = "SELECT coalesce(max(worker_deaths), 0) AS n FROM chunks WHERE job_id = ANY(:ids)"
    assert lab.rig.sql(deaths, ids=list(fault.jobs)) == [{"n": 0}]
