"""What is told of jobs whose model lives on several pools: everything that can take them counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_machine import CoreMachine
from seeded_work import good

from app.domain.jobs import Eta, JobDetails, Waiting
from app.domain.outlook import PoolOutlook
from app.services.count_stats import count_stats
from app.services.drain_worker import drain_worker
from app.services.explain_waiting import KnownOutlooks
from app.services.show_job import show_job

MANY = [good(f"item-{number}") for number in range(40)]
CHUNK_S = 100.0


@pytest.fixture(autouse=True)
def _every_look_tells(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.services.take_outlook.EVERY_S", 0.0)
    monkeypatch.setattr("app.services.take_outlook.SHARE_OF_TIME", 1e9)
    core.sql("DELETE FROM drains")
    core.sql("DELETE FROM model_rates")
    core.sql("UPDATE chunks SET finished_at = finished_at - interval '1 hour'")  # of the test before, on the same names
    core.dispatcher.database_was_away()


def long(core: CoreMachine) -> str:
    """A planned job whose chunks take long, as far as anybody knows."""
    job_id = core.planned(MANY)
    core.sql("UPDATE chunks SET estimated_s = :chunk_s WHERE job_id = :id", chunk_s=CHUNK_S, id=job_id)
    return job_id


def shown(core: CoreMachine, job_id: str) -> JobDetails:
    wiring = replace(core.wiring, outlooks=KnownOutlooks())
    return show_job(wiring=wiring, tenant_id=core.tenant_id, job_id=job_id)


def waiting(core: CoreMachine, job_id: str) -> Waiting:
    found = shown(core, job_id).waiting
    assert found is not None
    return found


def eta(core: CoreMachine, job_id: str) -> Eta:
    found = shown(core, job_id).eta
    assert found is not None
    return found


def outlooks(core: CoreMachine) -> dict[str, PoolOutlook]:
    rows = core.sql("SELECT pool, outlook FROM pool_outlooks")
    return {row["pool"]: PoolOutlook.from_json(row["pool"], row["outlook"]) for row in rows}


def test_a_job_whose_pool_lost_its_worker_waits_for_those_of_another(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "cpu")
    job_id = long(core)
    core.look()
    drain_worker(wiring=core.wiring, queue="cpu.0")
    core.look()
    assert waiting(core, job_id).reason == "no_worker_for_model"
    core.worker_lives("gpu.0", "gpu")
    core.look()
    assert (waiting(core, job_id).reason, waiting(core, job_id).position) == ("behind_other_work", 1)
    assert shown(core, job_id).eta is not None


def test_a_job_that_is_still_counted_where_no_worker_is_knows_those_that_can_take_it(core: CoreMachine) -> None:
    job_id = long(core)
    core.worker_lives("gpu.0", "gpu")
    core.look()
    core.sql("UPDATE jobs SET pool = 'cpu' WHERE id = :id", id=job_id)
    core.look()
    assert outlooks(core)["cpu"].n_workers == 0
    assert waiting(core, job_id).reason == "behind_other_work"
    assert "1 worker can run it" in waiting(core, job_id).detail
    assert shown(core, job_id).eta is not None


def test_a_worker_that_cannot_load_the_model_is_none_for_it(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "broken", warm=(), unloadable=("echo",))
    job_id = long(core)
    core.look()
    assert outlooks(core)["cpu"].n_workers == 1
    assert waiting(core, job_id).reason == "no_worker_for_model"
    assert shown(core, job_id).eta is None
    core.worker_lives("gpu.0", "gpu")
    core.look()
    assert waiting(core, job_id).reason == "behind_other_work"


def test_a_forecast_counts_the_workers_of_every_pool_that_can_take_the_job(core: CoreMachine) -> None:
    core.worker_lives("cpu.0", "cpu")
    job_id = long(core)
    core.look()
    with_one = eta(core, job_id)
    core.worker_lives("gpu.0", "gpu-0")
    core.worker_lives("gpu.1", "gpu-1")
    core.look()
    n_chunks = len(core.chunks(job_id))
    assert with_one.seconds == pytest.approx(n_chunks * CHUNK_S, rel=0.01)
    assert eta(core, job_id).seconds == pytest.approx(-(-n_chunks // 3) * CHUNK_S, abs=CHUNK_S + 1)
    assert "3 workers can run it" in waiting(core, job_id).detail


def test_work_is_foretold_at_the_mean_rate_of_the_workers_that_can_take_it(core: CoreMachine) -> None:
    for pool, rate in (("cpu", 1.0), ("gpu", 3.0)):
        core.sql(
            "INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', :pool, :rate)",
            pool=pool,
            rate=rate,
        )
        core.worker_lives(f"{pool}.0", pool)
    job_id = long(core)
    core.look()
    tokens = sum(chunk["estimated_tokens"] for chunk in core.chunks(job_id))
    assert eta(core, job_id).seconds == pytest.approx(tokens / 4, rel=0.3)


def test_the_backlog_of_a_job_is_shared_among_the_pools_by_their_workers(core: CoreMachine) -> None:
    for queue in ("cpu.0", "gpu.0", "gpu.1"):
        core.worker_lives(queue, queue)
    job_id = long(core)
    core.look()
    seconds = {pool: outlook.backlog_s for pool, outlook in outlooks(core).items()}
    assert sum(seconds.values()) == pytest.approx(len(core.chunks(job_id)) * CHUNK_S, rel=0.01)
    assert seconds["gpu"] == pytest.approx(2 * seconds["cpu"], rel=0.01)
    with core.wiring.database.begin() as connection:
        pools = count_stats(connection, core.wiring.settings, core.wiring.models).pools
    (first, second) = [pool.drained_in_s for pool in pools]
    assert first == pytest.approx(second, rel=0.01)
    assert sum(outlook.n_waiting for outlook in outlooks(core).values()) == 1
