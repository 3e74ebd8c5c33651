"""Why jobs wait and when they will end, as the dispatcher works it out and clients read it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_machine import CoreMachine
from seeded_work import failing, good
from sqlalchemy import update

from app.db.repositories.jobs import JobFilters
from app.db.tables import tenants
from app.domain.jobs import JobDetails, OnDeadline, Priority, Waiting
from app.domain.states import JobState
from app.errors import BrokerUnavailable
from app.services.explain_waiting import KnownOutlooks
from app.services.list_jobs import list_jobs
from app.services.pause_job import pause_job
from app.services.show_job import show_job

MANY = [good(f"item-{number}") for number in range(40)]


@pytest.fixture(autouse=True)
def looks_tell_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look takes the outlook."""
    monkeypatch.setattr("app.services.take_outlook.EVERY_S", 0.0)
    monkeypatch.setattr("app.services.take_outlook.SHARE_OF_TIME", 1e9)


def shown(core: CoreMachine, job_id: str) -> JobDetails:
    """The job as a process shows it that knew nothing before."""
    wiring = replace(core.wiring, outlooks=KnownOutlooks())
    return show_job(wiring=wiring, tenant_id=core.tenant_id, job_id=job_id)


def waiting(core: CoreMachine, job_id: str) -> Waiting:
    found = shown(core, job_id).waiting
    assert found is not None
    return found


def runs(core: CoreMachine, job_id: str) -> None:
    """A chunk of a job has just been claimed."""
    (first, *_) = core.granted(job_id)
    core.sql("UPDATE chunks SET state = 'running', claimed_at = now() WHERE id = :id", id=first)


def limit(core: CoreMachine, quota: str, value: int | None) -> None:
    change = update(tenants).where(tenants.c.id == core.tenant_id).values({quota: value})
    with core.wiring.database.begin() as connection:
        connection.execute(change)


def measured(core: CoreMachine, tokens_per_s: float) -> None:
    core.sql(
        "INSERT INTO model_rates (model, version, pool, tokens_per_s) VALUES ('echo', 'v1', 'cpu', :rate)"
        " ON CONFLICT (model, version, pool) DO UPDATE SET tokens_per_s = :rate",
        rate=tokens_per_s,
    )


def test_a_job_behind_others_knows_its_place_and_when_its_turn_comes(core: CoreMachine) -> None:
    measured(core, 100.0)
    first = core.planned(MANY)
    second, third = core.planned(MANY[:8]), core.planned(MANY[:8])
    runs(core, first)
    core.look()
    assert shown(core, first).waiting is None
    place = waiting(core, second)
    assert (place.reason, place.position) == ("behind_other_work", 1)
    assert place.detail.startswith("It is the next to start; 1 worker can run it, and its turn comes in about ")
    assert waiting(core, third).position == 2
    assert "1 job starts before it" in waiting(core, third).detail
    etas = [shown(core, job_id).eta for job_id in (first, second, third)]
    assert all(eta is not None and eta.low <= eta.seconds <= eta.high for eta in etas)
    assert sorted(etas, key=lambda eta: eta.seconds if eta else 0) == etas


def test_a_list_explains_as_well(core: CoreMachine) -> None:
    runs(core, core.planned(MANY))
    job_id = core.planned(MANY)
    core.look()
    wiring = replace(core.wiring, outlooks=KnownOutlooks())
    page = list_jobs(wiring=wiring, tenant_id=core.tenant_id, limit=5, after=None, filters=JobFilters())
    reasons = {each.job.id: each.waiting and each.waiting.reason for each in page.items}
    assert reasons[job_id] == "behind_other_work"


def test_without_a_worker_that_is_the_reason(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.look()
    found = shown(core, job_id)
    assert found.waiting is not None
    assert (found.waiting.reason, found.waiting.position) == ("no_worker_for_model", None)
    assert "No worker that can run model echo takes work now" in found.waiting.detail
    assert found.eta is None


def test_a_job_that_pauses_before_it_tries_again_says_until_when(core: CoreMachine) -> None:
    job_id = core.planned([failing("a", code="rate_limited")])
    core.run(core.granted(job_id)[0])
    core.look()
    found = shown(core, job_id)
    assert found.waiting is not None
    assert found.waiting.reason == "retry_backoff"
    next_try_at = core.chunks(job_id)[-1]["not_before"]
    assert f"tried again at {next_try_at:%Y-%m-%dT%H:%M:%SZ}" in found.waiting.detail
    assert found.eta is not None


@pytest.mark.parametrize(("state", "reason"), [("paused", "paused"), ("held", "held_for_review")])
def test_a_job_that_was_set_aside_says_so_whatever_the_outlook(core: CoreMachine, state: str, reason: str) -> None:
    job_id = core.planned(MANY)
    core.look()
    core.sql("UPDATE jobs SET state = :state WHERE id = :id", state=state, id=job_id)
    assert (waiting(core, job_id).reason, shown(core, job_id).eta) == (reason, None)


def test_a_broker_that_takes_nothing_is_the_reason_of_all_that_wait_until_it_takes_something(core: CoreMachine) -> None:
    unplanned, planned = core.submit([good("a")]), core.planned([good("a")])
    core.worker_lives()

    def broken() -> None:
        raise BrokerUnavailable("the broker did not take a message")

    core.publisher.fails = broken
    for _ in range(2):  # it can neither have the one checked nor the other run
        with pytest.raises(BrokerUnavailable):
            core.look()
    for job_id in (unplanned, planned):
        assert waiting(core, job_id).reason == "broker_unavailable"
        assert shown(core, job_id).eta is None
    core.look()  # nothing is due to be published again yet: that says nothing about the broker
    assert waiting(core, planned).reason == "broker_unavailable"
    core.publisher.fails = lambda: None
    core.patience_ends()
    core.worker_lives()
    core.look()
    assert shown(core, unplanned).waiting is None
    assert waiting(core, planned).reason == "behind_other_work"


def test_a_broker_that_answers_again_is_back_though_nothing_is_to_be_published(
    core: CoreMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    unplanned = core.submit([good("a")])

    def broken() -> None:
        raise BrokerUnavailable("the broker did not take a message")

    core.publisher.fails = broken
    with pytest.raises(BrokerUnavailable):
        core.look()
    monkeypatch.setattr("app.services.watch_broker.ASK_AFTER_S", 0.0)
    core.look()
    core.look()
    assert shown(core, unplanned).waiting is None


def test_an_outlook_that_nobody_renews_is_not_believed(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.worker_lives()
    core.look()
    core.sql("UPDATE pool_outlooks SET taken_at = now() - interval '40 seconds'")
    found = shown(core, job_id)
    assert found.waiting is not None
    assert (found.waiting.reason, found.waiting.position, found.eta) == ("behind_other_work", None, None)
    assert "the dispatcher has not reported for 40 s" in found.waiting.detail


def test_a_job_that_was_just_planned_waits_for_its_place(core: CoreMachine) -> None:
    core.worker_lives()
    core.look()
    job_id = core.planned(MANY)
    assert (waiting(core, job_id).reason, waiting(core, job_id).position) == ("behind_other_work", None)


def test_what_a_process_knows_is_read_again_after_a_second(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = core.planned(MANY)
    core.look()
    known = replace(core.wiring, outlooks=KnownOutlooks())

    def reason() -> str | None:
        details = show_job(wiring=known, tenant_id=core.tenant_id, job_id=job_id)
        return details.waiting and details.waiting.reason

    assert reason() == "no_worker_for_model"
    core.worker_lives()
    core.look()
    assert reason() == "no_worker_for_model"
    monkeypatch.setattr("app.services.explain_waiting.KEPT_FOR_S", 0.0)
    assert reason() == "behind_other_work"


def test_a_job_that_ended_neither_waits_nor_has_anything_before_it(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.drive(job_id)
    assert (shown(core, job_id).waiting, shown(core, job_id).eta) == (None, None)


def test_looking_at_ten_thousand_jobs_writes_one_row(core: CoreMachine) -> None:
    job_id = core.planned(MANY)
    core.worker_lives()
    core.sql(
        "INSERT INTO jobs (id, tenant_id, dialect, state, endpoint, model, pool, priority, completion_window,"
        " input_key, input_size_bytes, n_items, remaining_tokens, deadline_at, queued_at)"
        " SELECT 'many_' || n, tenant_id, dialect, 'queued', endpoint, model, pool, priority, completion_window,"
        " 'inputs/' || n, 1, 1, 10, now() + interval '1 day', now() FROM jobs, generate_series(1, 10000) AS n"
        " WHERE id = :id",
        id=job_id,
    )
    core.sql(
        "INSERT INTO chunks (tenant_id, job_id, ordinal, byte_start, byte_end, first_index, n_items, estimated_tokens,"
        " estimated_s) SELECT tenant_id, id, 0, 0, 1, 0, 1, 10, 1 FROM jobs WHERE id LIKE 'many%'"
    )
    core.look()  # the chunks that there are slots for are granted
    core.worker_lives()
    versions = "SELECT sum(xmin::text::bigint) AS n FROM jobs"
    before = core.sql(versions)
    core.look()
    assert core.sql(versions) == before
    assert len(core.sql("SELECT pool FROM pool_outlooks")) == 1
    assert waiting(core, "many_10000").position is not None


def test_a_job_that_will_miss_its_window_at_the_measured_rate_becomes_urgent(core: CoreMachine) -> None:
    escalating = {"on_deadline": OnDeadline.ESCALATE, "completion_window": "1h"}
    measured(core, 1_000_000.0)
    fast = core.planned(MANY, **escalating)
    core.worker_lives()
    core.look()
    assert core.job(fast).priority is Priority.STANDARD
    measured(core, 0.001)
    core.look()
    assert core.job(fast).priority is Priority.URGENT
    (told,) = core.sql("SELECT data FROM events WHERE job_id = :id AND kind = 'escalated'", id=fast)
    assert told["data"] == {"reason": "rate", "from": "standard", "to": "urgent"}
    assert core.job(fast).state is JobState.QUEUED


def test_a_rate_that_is_only_assumed_makes_nobody_urgent(core: CoreMachine) -> None:
    core.sql("DELETE FROM model_rates")
    job_id = core.planned(MANY, on_deadline=OnDeadline.ESCALATE, completion_window="1h")
    core.sql("UPDATE chunks SET estimated_s = 1000000 WHERE job_id = :id", id=job_id)
    core.worker_lives()
    core.look()
    assert core.job(job_id).priority is Priority.STANDARD


def test_pausing_a_job_takes_it_out_of_the_order(core: CoreMachine) -> None:
    first, second = core.planned(MANY), core.planned(MANY)
    core.worker_lives()
    pause_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=first)
    core.look()
    assert waiting(core, second).position == 1


@pytest.mark.parametrize(
    ("quota", "reason", "said"),
    [
        ("max_running_jobs", "tenant_concurrency", "The tenant runs 1 job, the most that its quota max_running_jobs"),
        (
            "max_chunks",
            "tenant_concurrency",
            "Workers have 1 chunk of this tenant, the most that its quota max_chunks",
        ),
        (
            "max_enqueued_tokens",
            "tenant_tokens",
            "would hold more than the 1 token that its quota max_enqueued_tokens",
        ),
    ],
)
def test_a_job_that_a_quota_keeps_back_names_it(core: CoreMachine, quota: str, reason: str, said: str) -> None:
    limit(core, quota, 1)
    first, second = core.planned(MANY), core.planned(MANY)
    runs(core, first)
    core.look()
    assert shown(core, first).waiting is None
    place = waiting(core, second)
    assert (place.reason, place.position) == (reason, 1)
    assert said in place.detail
    limit(core, quota, None)
    core.look()
    assert waiting(core, second).reason == "behind_other_work"
