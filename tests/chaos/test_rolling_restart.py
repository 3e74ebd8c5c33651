"""Every process is restarted cleanly in the middle of a job: at once, without a failed item, without a death."""

from __future__ import annotations

import time

import pytest
from chaos_rig import ChaosRig
from seeded_work import good, mixed, retried

LONG = [good(f"long-{number}", delay_s=0.25) for number in range(80)]
WAVES = [*(good(f"wave-{number}", delay_s=0.05) for number in range(60)), *mixed(20, seed=21)]


def test_a_device_worker_leaves_in_the_middle_of_a_long_chunk_and_hands_the_rest_on(rig: ChaosRig) -> None:
    job_id = rig.submit(LONG)
    chunk = rig.wait_until_running(job_id)
    time.sleep(1)
    started_s = time.monotonic()
    rig.stack.restart(chunk["queue"])
    restart_s = time.monotonic() - started_s
    rig.check(job_id, LONG)
    chunks = rig.sql("SELECT * FROM chunks WHERE job_id = :id ORDER BY ordinal", id=job_id)
    assert {row["worker_deaths"] for row in chunks} == {0}
    assert chunks[0]["state"] == "done"
    assert 0 < chunks[0]["n_succeeded"] < len(LONG)
    assert len(chunks) > 1
    assert restart_s < 10  # the chunk alone would have taken 20 s


@pytest.mark.parametrize("process", ["cpu.0", "cpu.1", "control", "dispatcher", "api", "beat"])
def test_a_process_is_restarted_under_load_without_a_failed_item(rig: ChaosRig, process: str) -> None:
    items = [*WAVES, retried("again", fail_times=2)]
    job_id = rig.submit(items, chunks="many")
    rig.wait_until_running(job_id)
    rig.stack.restart(process)
    rig.stack.wait_until_ready()
    rig.check(job_id, items)
    deaths = rig.sql("SELECT sum(worker_deaths) AS n FROM chunks WHERE job_id = :id", id=job_id)
    assert deaths[0]["n"] == 0
