"""The quotas of tenants hold while their jobs run, and take effect at the dispatcher's next look."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from core_machine import CoreMachine
from seeded_work import SeededItem, failing, good
from sqlalchemy import event, update

from app.db.repositories.queued_jobs import QueuedJobs
from app.db.repositories.tenant_use import TenantUses
from app.db.repositories.tenants import Tenants
from app.db.repositories.workers import Workers
from app.db.tables import tenants
from app.domain.tenant_places import Cap
from app.domain.work_queue import WorkQueue
from app.services.dispatch import Dispatcher
from app.services.pause_job import pause_job
from app.services.resume_job import resume_job
from app.services.tenant_quotas import tenant_quotas

ITEMS_OF_A_CHUNK = 4
QUEUES = [f"cpu.{number}" for number in range(6)]


def new_dispatcher(core: CoreMachine) -> Dispatcher:
    settings, database = core.wiring.settings, core.wiring.database
    return Dispatcher(settings=settings, models=core.wiring.models, database=database, publisher=core.publisher)


@pytest.fixture(autouse=True)
def _nothing_is_owed_and_no_quota_set(core: CoreMachine) -> Iterator[None]:
    core.dispatcher = new_dispatcher(core)
    core.sql("DELETE FROM model_rates")
    yield
    core.sql("UPDATE tenants SET weight = NULL, max_running_jobs = NULL, max_chunks = NULL, max_enqueued_tokens = NULL")


def of_tenant(core: CoreMachine, name: str) -> CoreMachine:
    """The same machine, used by another tenant."""
    with core.wiring.database.begin() as connection:
        return replace(core, tenant_id=Tenants(connection).id_of(name))


def set_quota(core: CoreMachine, **quota: Any) -> None:
    with core.wiring.database.begin() as connection:
        connection.execute(update(tenants).where(tenants.c.id == core.tenant_id).values(**quota))


def chunks_of(n_chunks: int) -> list[SeededItem]:
    return [good(f"item-{number}") for number in range(n_chunks * ITEMS_OF_A_CHUNK)]


def look(core: CoreMachine) -> Counter[str]:
    """Six workers with two slots each, one look; how many chunks of each job were granted."""
    for queue in QUEUES:
        core.worker_lives(queue, f"worker-{queue}")
    core.look()
    granted: Counter[str] = Counter()
    for job_id, grants in core.publisher.waves:
        granted[job_id] += len(grants)
        for grant in grants:
            core.sql("UPDATE chunks SET granted_at = now() WHERE id = :id", id=grant.chunk_id)
    core.publisher.waves.clear()
    return granted


def run_granted(core: CoreMachine, job_id: str) -> None:
    for chunk in core.chunks(job_id):
        if chunk["state"] == "granted":
            core.run(chunk["id"], queue=chunk["queue"], holder=f"worker-{chunk['queue']}")
    core.finish(job_id)


def kept_back(core: CoreMachine) -> dict[str, Cap]:
    """As somebody who explains waiting finds it from the rows of one tenant."""
    with core.wiring.database.begin() as connection:
        queue = WorkQueue(tenant_quotas(connection, core.wiring.settings))
        for job in QueuedJobs(connection).all():
            if job.tenant_id == core.tenant_id:
                queue.put(job)
    return queue.kept_back()


def test_no_more_jobs_of_a_tenant_run_than_it_may(core: CoreMachine) -> None:
    set_quota(core, max_running_jobs=2)
    first, second, third = (core.planned(chunks_of(2)) for _ in range(3))
    assert look(core) == {first: 2, second: 2}
    assert kept_back(core) == {third: Cap.MAX_RUNNING_JOBS}
    with core.wiring.database.begin() as connection:
        use = TenantUses(connection).of([core.tenant_id])[core.tenant_id]
    assert (use.running_jobs, use.live_chunks) == (2, 4)
    assert use.enqueued_tokens == sum(
        chunk["estimated_tokens"] for job in (first, second) for chunk in core.chunks(job)
    )
    assert look(core) == {}
    run_granted(core, first)
    assert look(core) == {third: 2}
    assert kept_back(core) == {}


def test_no_more_chunks_of_a_tenant_are_with_workers_than_may_be(core: CoreMachine) -> None:
    set_quota(core, max_chunks=3)
    other = of_tenant(core, "other")
    mine, theirs = core.planned(chunks_of(4)), other.planned(chunks_of(4))
    assert look(core) == {mine: 3, theirs: 4}
    run_granted(core, theirs)
    assert look(core) == {}
    run_granted(core, mine)
    assert look(core) == {mine: 1}


def test_tokens_of_admitted_jobs_stay_below_the_quota_and_a_job_above_it_runs_alone(core: CoreMachine) -> None:
    small, large = (
        core.planned(chunks_of(2), completion_window="1h"),
        core.planned(chunks_of(8), completion_window="2h"),
    )
    last = core.planned(chunks_of(2), completion_window="3h")
    (row,) = core.sql("SELECT remaining_tokens FROM jobs WHERE id = :id", id=small)
    set_quota(core, max_enqueued_tokens=row["remaining_tokens"] * 2)
    assert look(core) == {small: 2}
    assert kept_back(core) == {large: Cap.MAX_ENQUEUED_TOKENS, last: Cap.MAX_ENQUEUED_TOKENS}
    run_granted(core, small)
    assert look(core) == {large: 8}
    run_granted(core, large)
    assert look(core) == {last: 2}


def test_tenants_share_by_weight(core: CoreMachine) -> None:
    other = of_tenant(core, "other")
    set_quota(core, weight=3)
    set_quota(other, weight=1)
    mine, theirs = core.planned(chunks_of(12)), other.planned(chunks_of(12))
    assert look(core) == {mine: 9, theirs: 3}


def test_a_quota_that_is_set_holds_at_the_next_look(core: CoreMachine) -> None:
    first, second = core.planned(chunks_of(4)), core.planned(chunks_of(4))
    set_quota(core, max_chunks=1)
    assert look(core) == {first: 1}
    set_quota(core, max_chunks=6)
    assert look(core) == {first: 3, second: 2}


def test_a_paused_job_leaves_its_place_and_waits_for_one_when_it_is_resumed(core: CoreMachine) -> None:
    set_quota(core, max_running_jobs=1)
    first, second = core.planned(chunks_of(2)), core.planned(chunks_of(2))
    assert look(core) == {first: 2}
    steer = {"wiring": core.wiring, "tenant_id": core.tenant_id, "job_id": first}
    pause_job(**steer)
    assert look(core) == {second: 2}
    resume_job(**steer)
    assert look(core) == {}
    assert kept_back(core) == {first: Cap.MAX_RUNNING_JOBS}
    run_granted(core, second)
    assert look(core) == {first: 2}


def test_a_dispatcher_that_takes_over_keeps_to_the_same_quotas(core: CoreMachine) -> None:
    set_quota(core, max_running_jobs=1, max_chunks=3)
    first, second = core.planned(chunks_of(4)), core.planned(chunks_of(2))
    assert look(core) == {first: 3}
    heir = replace(core, dispatcher=new_dispatcher(core))
    assert look(heir) == {}
    run_granted(core, first)
    assert look(heir) == {first: 1}
    run_granted(core, first)
    assert look(heir) == {second: 2}


def test_what_chunks_really_cost_decides_who_is_next(core: CoreMachine) -> None:
    """Both look alike when they are planned; then those of one turn out to take ten times as long."""
    other = of_tenant(core, "other")
    dear, cheap = core.planned(chunks_of(24)), other.planned(chunks_of(24))
    assert look(core) == {dear: 6, cheap: 6}
    for job_id, device_s in ((dear, 10.0), (cheap, 1.0)):
        run_granted(core, job_id)
        core.sql("UPDATE chunks SET device_s = :s WHERE job_id = :id AND state = 'done'", s=device_s, id=job_id)
    assert look(core) == {cheap: 12}


def test_a_chunk_is_charged_what_its_tokens_take_at_the_measured_rate(core: CoreMachine) -> None:
    quick, slow = core.planned(chunks_of(12)), of_tenant(core, "other").planned(chunks_of(12))
    core.sql("UPDATE jobs SET model_version = 'v9' WHERE id = :id", id=slow)
    with core.wiring.database.begin() as connection:
        for version, rate in (("v1", 4_000.0), ("v9", 1_000.0)):
            values = {"model": "echo", "version": version, "pool": "cpu", "tokens_per_s": rate}
            Workers(connection).learn_rate(**values, is_telling=True)
    granted = look(core)
    assert granted[quick] == pytest.approx(4 * granted[slow], abs=3)


def test_a_job_that_only_waits_for_its_next_try_does_not_hold_its_tenant_up(core: CoreMachine) -> None:
    set_quota(core, max_running_jobs=2)
    retried, other = core.planned([failing("a", code="rate_limited")]), core.planned(chunks_of(2))
    look(core)
    run_granted(core, retried)
    run_granted(core, other)
    core.sql("UPDATE chunks SET not_before = now() + interval '1 hour' WHERE job_id = :id", id=retried)
    third = core.planned(chunks_of(2))
    assert look(core) == {third: 2}
    core.waiting_is_over(retried)
    assert look(core) == {retried: 1}


def test_what_a_process_of_another_release_left_out_is_counted_again(core: CoreMachine) -> None:
    job_id = core.planned(chunks_of(2))
    (before,) = core.sql("SELECT remaining_tokens FROM jobs WHERE id = :id", id=job_id)
    core.sql("UPDATE jobs SET remaining_tokens = 7 WHERE id = :id", id=job_id)
    with core.wiring.database.begin() as connection:
        assert QueuedJobs(connection).recount() == [job_id]
        assert QueuedJobs(connection).recount() == []
    assert core.sql("SELECT remaining_tokens FROM jobs WHERE id = :id", id=job_id) == [before]


def test_a_change_is_seen_whatever_the_order_in_which_transactions_commit(core: CoreMachine) -> None:
    early, late = core.planned(chunks_of(2)), core.planned(chunks_of(2))
    database = core.wiring.database
    with database.engine.connect() as slow, slow.begin():
        slow.exec_driver_sql("UPDATE jobs SET deadline_at = deadline_at WHERE id = %(id)s", {"id": early})
        core.sql("UPDATE jobs SET deadline_at = deadline_at WHERE id = :id", id=late)
        with database.begin() as connection:
            queued = QueuedJobs(connection)
            since = queued.horizon()
            seen = {job.id for job in queued.changed_since(since).may_run}
    assert late in seen or early not in seen
    with database.begin() as connection:
        assert early in {job.id for job in QueuedJobs(connection).changed_since(since).may_run}


def test_many_jobs_that_wait_for_their_next_try_keep_no_look_busy(core: CoreMachine) -> None:
    """Asking one by one would take the dispatcher seconds where thousands wait for an engine that is away."""
    waiting = [core.planned([good("a")], completion_window="1h") for _ in range(60)]
    core.sql("UPDATE chunks SET not_before = now() + interval '1 hour' WHERE job_id = ANY(:ids)", ids=waiting)
    ready = core.planned([good("b")], completion_window="2h")
    engine, asked = core.wiring.database.engine, list[str]()

    def note(*said: Any) -> None:
        asked.append(said[2])

    event.listen(engine, "before_cursor_execute", note)
    assert look(core) == {ready: 1}
    event.remove(engine, "before_cursor_execute", note)
    assert len([statement for statement in asked if "SET admitted_at" in statement]) < len(waiting) / 2
    core.waiting_is_over(waiting[0])
    assert look(core) == {waiting[0]: 1}
