"""The kernel kills a worker for the want of memory: ``make chaos``, as root."""

from __future__ import annotations

from pathlib import Path

import pytest
from broken_device import among_neighbours, breaking, broken_device
from fault_lab import FaultLab
from memory_group import memory_group

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(240)]
MEMORY_BYTES = 600 * 2**20


def test_killed_for_memory(lab: FaultLab, tmp_path: Path) -> None:
    with lab.fault(
        17,
        "an item exhausts memory each time",
        injected="a model that takes all there is, in a control group of 600 MiB (needs root)",
        happens="the kernel kills the child, the item is found as above and fails as `out_of_memory`",
        within_s=30.0,
    ) as fault:
        items = among_neighbours(breaking("glutton", "eats_memory", "out_of_memory"))
        with memory_group(limit_bytes=MEMORY_BYTES) as join, broken_device(lab.rig, tmp_path, before=join):
            job_id = lab.rig.submit(items)
            fault.jobs[job_id] = items
            lab.stack.wait_until(lambda: lab.rig.has_ended(job_id), timeout_s=120, what="the glutton's conviction")
        lab.wait_for_workers()
        fault.is_over()
