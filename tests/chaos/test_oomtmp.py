from __future__ import annotations

from pathlib import Path

from broken_device import among_neighbours, breaking, broken_device
from chaos_rig import ChaosRig
from memory_group import memory_group


def test_oom(rig: ChaosRig, tmp_path: Path):
    items = among_neighbours(breaking("glutton", "eats_memory", "out_of_memory"))
    with memory_group(limit_bytes=600 * 2**20) as join, broken_device(rig, tmp_path, before=join):
        job_id = rig.submit(items)
        rig.stack.wait_until(lambda: rig.has_ended(job_id), timeout_s=110, what="conv")
        rig.check(job_id, items)
        print((tmp_path / "broken.log").read_text()[-1500:])
