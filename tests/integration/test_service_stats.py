"""What ``/v1/stats`` counts, from real rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from core_machine import CoreMachine, core_machine
from seeded_work import good

from app.domain.jobs import Priority
from app.domain.stats import PoolStats, ServedStats, ServiceStats
from app.services.count_stats import KnownStats, count_stats

MANY = [good(f"item-{number}") for number in range(10)]


@pytest.fixture
def core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """An installation where nothing has happened."""
    with core_machine(servers, chunk_max_items=4) as machine:
        yield machine


def counted(core: CoreMachine, **changes: int) -> ServiceStats:
    with core.wiring.database.begin() as connection:
        return count_stats(connection, replace(core.wiring.settings, **changes), core.wiring.models)


def of_class(stats: ServiceStats, priority: str | None) -> ServedStats:
    return next(each for each in stats.served if each.priority == priority)


def of_pool(stats: ServiceStats, name: str) -> PoolStats:
    return next(each for each in stats.pools if each.pool == name)


def ended(core: CoreMachine, job_id: str, *, took_s: float, window_s: float, state: str = "succeeded") -> None:
    core.sql(
        "UPDATE jobs SET state = :state, created_at = now() - make_interval(secs => :took),"
        " started_at = now() - make_interval(secs => :took / 2), finished_at = now(),"
        " deadline_at = now() + make_interval(secs => :window - :took) WHERE id = :id",
        state=state,
        took=took_s,
        window=window_s,
        id=job_id,
    )


def test_nothing_is_said_of_nothing(core: CoreMachine) -> None:
    stats = counted(core)
    assert (stats.queues, stats.alerts) == ([], [])
    assert {pool.pool: (pool.n_jobs, pool.n_workers, pool.n_wanted) for pool in stats.pools} == {
        "cpu": (0, None, 0),
        "gpu": (0, None, 0),
    }
    assert all(each.in_window_rate is None and each.wait.p50 is None for each in stats.served)


def test_depth_and_age_are_counted_by_pool_and_class(core: CoreMachine) -> None:
    for priority in (Priority.URGENT, Priority.STANDARD, Priority.STANDARD):
        job_id = core.planned(MANY, priority=priority)
        core.sql("UPDATE jobs SET created_at = now() - interval '90 seconds' WHERE id = :id", id=job_id)
    core.submit(MANY)
    found = {(queue.pool, queue.priority): queue for queue in counted(core).queues}
    assert found.keys() == {("cpu", "urgent"), ("cpu", "standard"), (None, "standard")}
    standard = found["cpu", "standard"]
    assert (standard.n_jobs, standard.n_chunks, standard.n_items) == (2, 6, 20)
    assert 90 <= standard.oldest_age_s < 120
    unchecked = found[None, "standard"]
    assert (unchecked.n_jobs, unchecked.n_chunks, unchecked.n_items) == (1, 0, 10)


def test_a_pool_tells_its_backlog_and_how_long_its_workers_need_for_it(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.sql("UPDATE chunks SET estimated_s = 100 WHERE job_id = :id", id=job_id)
    core.worker_lives()
    core.worker_lives("cpu.1", "worker-2")
    core.look()
    pool = of_pool(counted(core), "cpu")
    assert (pool.pool, pool.n_workers, pool.n_jobs) == ("cpu", 2, 1)
    assert pool.backlog_s == pytest.approx(300, abs=1)
    assert pool.drained_in_s == pytest.approx(150, abs=1)
    core.sql("UPDATE pool_outlooks SET taken_at = now() - interval '1 minute'")
    pool = of_pool(counted(core), "cpu")
    assert (pool.n_jobs, pool.n_workers, pool.backlog_s) == (1, None, None)


def test_a_pool_tells_how_many_workers_there_should_be_with_or_without_a_dispatcher(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    tokens = sum(chunk["estimated_tokens"] for chunk in core.chunks(job_id))
    core.sql(
        "INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', 'cpu', :rate)",
        rate=tokens / 1_000,
    )
    stats = counted(core, scale_target_s=300, scale_max_workers=8)
    assert (of_pool(stats, "cpu").n_wanted, of_pool(stats, "gpu").n_wanted) == (4, 0)
    assert of_pool(stats, "cpu").n_workers is None
    assert of_pool(counted(core, scale_target_s=300, scale_max_workers=3), "cpu").n_wanted == 3
    core.drive(job_id)
    assert of_pool(counted(core), "cpu").n_wanted == 0


def test_windows_that_were_kept_are_a_share_of_the_jobs_that_ended(core: CoreMachine) -> None:
    for took_s, state in ((10, "succeeded"), (20, "partially_succeeded"), (70, "succeeded"), (60, "expired")):
        ended(core, core.planned(MANY, priority=Priority.URGENT), took_s=took_s, window_s=60, state=state)
    ended(core, core.planned(MANY, priority=Priority.URGENT), took_s=5, window_s=60, state="cancelled")
    refused = core.planned(MANY)
    ended(core, refused, took_s=5, window_s=60, state="failed")
    core.sql("""UPDATE jobs SET failure = '{"code": "invalid_json_line"}' WHERE id = :id""", id=refused)
    old = core.planned(MANY, priority=Priority.URGENT)
    ended(core, old, took_s=70, window_s=60)
    core.sql("UPDATE jobs SET finished_at = now() - interval '25 hours' WHERE id = :id", id=old)
    stats = counted(core)
    urgent, together = of_class(stats, "urgent"), of_class(stats, None)
    assert (urgent.n_ended, urgent.n_in_window, urgent.in_window_rate) == (4, 2, 0.5)
    assert (together.n_ended, together.in_window_rate) == (4, 0.5)
    assert urgent.time_to_complete.p50 == pytest.approx(20, abs=1)
    assert urgent.time_to_complete.p99 == pytest.approx(70, abs=1)
    assert urgent.wait.p50 == pytest.approx(10, abs=1)


def test_a_job_that_has_started_counts_with_its_wait_before_it_has_ended(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.sql(
        "UPDATE jobs SET state = 'running', created_at = now() - interval '50 seconds',"
        " started_at = now() - interval '10 seconds' WHERE id = :id",
        id=job_id,
    )
    standard = of_class(counted(core), "standard")
    assert standard.wait.p50 == pytest.approx(40, abs=1)
    assert (standard.n_ended, standard.time_to_complete.p50) == (0, None)


def test_an_alert_says_so_above_the_configured_depth(core: CoreMachine) -> None:
    for _ in range(3):
        core.planned(MANY)
    assert counted(core, queue_deep_jobs=3).alerts == []
    (alert,) = counted(core, queue_deep_jobs=2).alerts
    assert (alert.code, alert.pool, alert.value, alert.threshold) == ("queue_deep", "cpu", 3, 2)


def test_a_process_counts_again_only_after_some_seconds(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownStats()
    place = (core.wiring.database, core.wiring.settings, core.wiring.models)
    assert known.read(*place).queues == []
    core.submit(MANY)
    assert known.read(*place).queues == []
    monkeypatch.setattr(known, "_good_until_s", 0.0)
    assert len(known.read(*place).queues) == 1


def test_the_window_is_read_through_its_index(core: CoreMachine) -> None:
    core.sql(
        "INSERT INTO jobs (id, tenant_id, dialect, state, endpoint, priority, completion_window, input_key,"
        " input_size_bytes, deadline_at, finished_at)"
        " SELECT 'old_' || n, :tenant, 'native', 'succeeded', '/v1/echo', 'standard', '1h', 'k', 1, now(),"
        " now() - interval '3 days' FROM generate_series(1, 20000) AS n",
        tenant=core.tenant_id,
    )
    core.sql("ANALYZE jobs")
    plan = core.sql("EXPLAIN SELECT 1 FROM jobs WHERE finished_at > now() - interval '1 day'")
    assert "ix_jobs_finished_at" in str(plan)
