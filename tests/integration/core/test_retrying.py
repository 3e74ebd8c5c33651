"""Retry in place: what did not succeed runs again, and one final result holds each item once."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from core_machine import CoreMachine, HeldUp, Interrupted
from seeded_work import Expected, SeededItem, bad_body, expected_of, failing, good, healed, retried

from app.domain.jobs import Counts, JobDetails, OnDeadline
from app.domain.states import JobState
from app.errors import Gone, NotFound, NothingToRetry, QueueFull, StateConflict, StorageUnavailable
from app.services import expire_jobs as expiring
from app.services import finish_job as finishing
from app.services import sweep_expired as sweeping
from app.services.cancel_job import cancel_job
from app.services.escalate_jobs import escalate_jobs
from app.services.expire_jobs import expire_jobs
from app.services.finish_job import Finished
from app.services.pause_job import pause_job
from app.services.preparation import Prepared
from app.services.resume_job import resume_job
from app.services.retry_job import retry_job
from app.services.run_chunk import Ran
from app.services.show_job import show_job
from app.services.sweep_expired import sweep_expired
from app.services.update_job import update_job

ALL = ("failed", "expired", "cancelled")
MIX = [good("a"), healed("b"), retried("c"), failing("d"), bad_body("e"), healed("f"), good("g")]
ENDED = {**expected_of(MIX), "b": Expected("failed", "context_length_exceeded")}
ENDED["f"] = ENDED["b"]
GONE = {
    "deleted": "UPDATE files SET deleted_at = now() WHERE id = :id",
    "expired": "UPDATE files SET expires_at = now() WHERE id = :id",
}


def retry(core: CoreMachine, job_id: str, include: Iterable[str] = ALL) -> JobDetails:
    return retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id, include=tuple(include))


def cancel(core: CoreMachine, job_id: str) -> JobDetails:
    return cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def details(core: CoreMachine, job_id: str) -> JobDetails:
    return show_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def counts(core: CoreMachine, job_id: str, **wanted: int) -> None:
    found = details(core, job_id).counts
    assert found == Counts(total=sum(wanted.values()), **wanted)


def ended(core: CoreMachine, items: list[SeededItem] = MIX, **fields: Any) -> str:
    """A job of these items that has come to its first end."""
    job_id = core.planned(items, **fields)
    core.drive(job_id)
    return job_id


def planned_again(core: CoreMachine, job_id: str, include: Iterable[str] = ALL) -> None:
    retry(core, job_id, include)
    assert core.prepare(job_id) is Prepared.PLANNED


def stopped_half_way(core: CoreMachine, end: str) -> str:
    """A job of which the first chunk ran and the rest did not, with a failure in what ran."""
    job_id = core.planned([healed("a"), good("b"), good("c"), good("d"), good("e"), good("f")])
    core.run(core.granted(job_id)[0])
    if end == "cancelled":
        cancel(core, job_id)
    else:
        core.window_closes(job_id)
        expire_jobs(database=core.wiring.database)
    assert core.drive(job_id).state == end
    counts(core, job_id, succeeded=3, failed=1, **{end: 2})
    return job_id


def lines(core: CoreMachine, job_id: str) -> dict[str, tuple[str, int]]:
    return {name: (line.status, line.attempts) for name, line in core.checker.results(job_id).items()}


# -- what runs again


def test_only_what_failed_runs_again_and_its_new_outcomes_replace_the_old(core: CoreMachine) -> None:
    job_id = ended(core)
    core.checker.check_job(job_id, ENDED)
    before = details(core, job_id)
    assert (before.job.state, before.job.attempt_runs) == (JobState.PARTIALLY_SUCCEEDED, 0)
    assert retry(core, job_id).job.state is JobState.QUEUED
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))
    after = details(core, job_id)
    assert (after.job.state, after.job.attempt_runs) == (JobState.PARTIALLY_SUCCEEDED, 1)
    assert after.errors_by_code == {"context_length_exceeded": 1, "missing_required_parameter": 1}
    assert lines(core, job_id) == {
        "a": ("succeeded", 1),
        "b": ("succeeded", 2),
        "c": ("succeeded", 2),
        "d": ("failed", 2),
        "e": ("failed", 2),
        "f": ("succeeded", 2),
        "g": ("succeeded", 1),
    }


def test_a_job_whose_failures_are_healed_succeeds_and_has_nothing_left_to_retry(core: CoreMachine) -> None:
    job_id = ended(core, [good("a"), healed("b"), good("c")])
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of([good("a"), healed("b"), good("c")]))
    with pytest.raises(NothingToRetry, match="no item that is failed or expired or cancelled"):
        retry(core, job_id)
    assert core.job(job_id).attempt_runs == 1


def test_a_job_may_be_retried_as_often_as_it_takes(core: CoreMachine) -> None:
    job_id = ended(core, [good("a"), healed("b", fail_times=4)])
    for run in range(1, 4):
        retry(core, job_id)
        assert core.drive(job_id).state is JobState.PARTIALLY_SUCCEEDED
        assert lines(core, job_id)["b"] == ("failed", run + 1)
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    assert core.job(job_id).attempt_runs == 4
    core.checker.check_job(job_id, expected_of([good("a"), healed("b")]))
    assert lines(core, job_id)["b"] == ("succeeded", 5)


def test_each_run_has_the_whole_budget_of_attempts(core: CoreMachine) -> None:
    job_id = ended(core, [retried("a", fail_times=5), good("b")], max_attempts=3)
    assert lines(core, job_id)["a"] == ("failed", 3)
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    assert lines(core, job_id)["a"] == ("succeeded", 6)
    core.checker.check_job(job_id)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_what_did_not_run_can_be_retried_without_what_failed(core: CoreMachine, end: str) -> None:
    job_id = stopped_half_way(core, end)
    retry(core, job_id, [end])
    counts(core, job_id, succeeded=3, failed=1, pending=2)
    assert core.drive(job_id).state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=5, failed=1)
    assert lines(core, job_id)["e"] == ("succeeded", 1)


@pytest.mark.parametrize("end", ["cancelled", "expired"])
def test_what_failed_can_be_retried_without_what_did_not_run(core: CoreMachine, end: str) -> None:
    job_id = stopped_half_way(core, end)
    retry(core, job_id, ["failed"])
    assert core.drive(job_id).state == end  # as its outcomes say
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=4, **{end: 2})


def test_an_expired_and_then_cancelled_job_is_retried_as_a_whole(core: CoreMachine) -> None:
    job_id = stopped_half_way(core, "expired")
    planned_again(core, job_id, ["failed"])
    cancel(core, job_id)
    assert core.drive(job_id).state is JobState.CANCELLED
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=3, expired=2, cancelled=1)
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id)
    assert core.job(job_id).attempt_runs == 2


def test_an_item_on_which_workers_died_is_tried_again_by_itself(core: CoreMachine) -> None:
    core.sql("DELETE FROM workers")
    job_id = core.planned([good("a"), failing("b"), good("c")])
    core.drive(job_id)
    part = core.sql("SELECT * FROM result_parts WHERE job_id = :id AND outcome = 'failed'", id=job_id)[0]
    assert part["n_items"] == 1
    planned_again(core, job_id)
    (again,) = [chunk for chunk in core.chunks(job_id) if chunk["run"] == 1]
    assert (again["n_items"], again["worker_deaths"]) == (1, 0)
    core.drive(job_id)
    core.checker.check_job(job_id)


def test_the_failures_of_many_chunks_make_few(core: CoreMachine) -> None:
    items = [healed(f"{n}") if n % 4 == 0 else good(f"{n}") for n in range(40)]
    job_id = ended(core, items)
    assert len([chunk for chunk in core.chunks(job_id) if chunk["run"] == 0]) == 10
    planned_again(core, job_id)
    assert [chunk["n_items"] for chunk in core.chunks(job_id) if chunk["run"] == 1] == [4, 4, 2]
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_whole_job_that_failed_runs_again(core: CoreMachine) -> None:
    items = [healed(f"{n}") for n in range(9)]
    job_id = ended(core, items)
    assert core.job(job_id).state is JobState.FAILED
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))


# -- what is seen meanwhile


def test_what_runs_again_is_pending_from_the_first_moment_and_counts_always_sum(core: CoreMachine) -> None:
    job_id = ended(core)
    counts(core, job_id, succeeded=3, failed=4)
    assert retry(core, job_id).counts == Counts(total=7, succeeded=3, pending=4)
    counts(core, job_id, succeeded=3, pending=4)
    assert details(core, job_id).errors_by_code == {}
    core.prepare(job_id)
    counts(core, job_id, succeeded=3, pending=4)
    (chunk_id,) = core.granted(job_id)
    core.run(chunk_id, runner=Interrupted(core.runner, lambda: counts(core, job_id, succeeded=3, running=4)))
    core.drive(job_id)
    counts(core, job_id, succeeded=5, failed=2)


def test_usage_keeps_the_work_that_was_done_and_cost_charges_what_succeeded_once(core: CoreMachine) -> None:
    job_id = ended(core)
    before = details(core, job_id)
    retry(core, job_id)
    meanwhile = details(core, job_id)
    assert meanwhile.usage == before.usage
    core.drive(job_id)
    after = details(core, job_id)
    succeeded = core.checker.results(job_id).values()
    n_tokens = sum(-(-len(f"I am {line.custom_id}") // 4) for line in succeeded if line.status == "succeeded")
    assert after.usage.input_tokens == n_tokens > before.usage.input_tokens
    assert after.usage.device_s >= before.usage.device_s
    never_failed = ended(core, [good(name) for name in "abcfg"])
    assert after.cost == details(core, never_failed).cost


def test_the_job_is_live_again_with_a_whole_window_before_it(core: CoreMachine) -> None:
    job_id = ended(core, completion_window="2h")
    core.sql("UPDATE jobs SET deadline_at = now() - interval '1 day' WHERE id = :id", id=job_id)
    job = retry(core, job_id).job
    assert (job.state, job.attempt_runs, job.stop_reason) == (JobState.QUEUED, 1, None)
    assert job.finished_at is job.results_expire_at is job.final is job.finalizing_at is None
    left = core.sql("SELECT extract(epoch FROM deadline_at - now()) AS s FROM jobs WHERE id = :id", id=job_id)
    assert 7190 < left[0]["s"] <= 7200
    assert core.drive(job_id).results_expire_at is not None


def test_the_history_tells_of_the_retry(core: CoreMachine) -> None:
    job_id = stopped_half_way(core, "cancelled")
    retry(core, job_id)
    states = core.sql("SELECT data FROM events WHERE job_id = :id AND kind = 'state' ORDER BY id", id=job_id)
    assert states[-1]["data"] == {
        "from": "cancelled",
        "to": "queued",
        "run": 1,
        "items": {"failed": 1, "cancelled": 2},
    }


# -- refusals


def test_a_live_job_is_not_retried(core: CoreMachine) -> None:
    job_id = core.planned(MIX)
    with pytest.raises(StateConflict, match="only a job that has ended") as refused:
        retry(core, job_id)
    assert not isinstance(refused.value, NothingToRetry)
    assert core.job(job_id).attempt_runs == 0


def test_a_job_without_such_items_is_left_as_it_is(core: CoreMachine) -> None:
    job_id = ended(core)
    before = core.sql("SELECT * FROM jobs WHERE id = :id", id=job_id)
    with pytest.raises(NothingToRetry, match="no item that is expired or cancelled"):
        retry(core, job_id, ["expired", "cancelled"])
    assert core.sql("SELECT * FROM jobs WHERE id = :id", id=job_id) == before
    core.checker.check_job(job_id, ENDED)


def test_a_job_whose_input_was_refused_has_nothing_to_retry(core: CoreMachine) -> None:
    job_id = core.submit_content(b"not json\n")
    core.drive(job_id)
    with pytest.raises(NothingToRetry, match="was refused"):
        retry(core, job_id)


def test_another_tenants_job_is_not_there(core: CoreMachine) -> None:
    job_id = ended(core)
    with pytest.raises(NotFound):
        retry_job(wiring=core.wiring, tenant_id="somebody", job_id=job_id)


@pytest.mark.parametrize("how", [*GONE])
def test_a_job_whose_file_is_gone_is_not_retried(core: CoreMachine, how: str) -> None:
    job_id = core.submit_batch(MIX)
    core.drive(job_id)
    file_id = core.job(job_id).input_file_id
    core.sql(GONE[how], id=file_id)
    with pytest.raises(Gone, match="was deleted or has expired") as refused:
        retry(core, job_id)
    assert refused.value.param == "input_file_id"
    core.checker.check_job(job_id, ENDED)


def test_a_job_whose_results_are_past_their_life_is_not_retried(core: CoreMachine) -> None:
    job_id = ended(core)
    core.sql("UPDATE jobs SET results_expire_at = now() WHERE id = :id", id=job_id)
    with pytest.raises(Gone, match="past their life"):
        retry(core, job_id)


# -- steering a retry


def test_a_cancel_before_it_is_planned_keeps_what_succeeded(core: CoreMachine) -> None:
    job_id = ended(core)
    retry(core, job_id)
    cancel(core, job_id)
    counts(core, job_id, succeeded=3, pending=4)
    assert core.drive(job_id).state is JobState.CANCELLED
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=3, cancelled=4)
    assert lines(core, job_id)["b"] == ("cancelled", 1)


def test_a_cancel_in_the_middle_keeps_what_the_retry_finished(core: CoreMachine) -> None:
    job_id = ended(core, [healed("a"), healed("b"), healed("c"), good("d")])
    planned_again(core, job_id)
    (chunk_id,) = core.granted(job_id)
    assert core.run(chunk_id, runner=HeldUp(core.runner, 2, lambda: cancel(core, job_id))) is Ran.CUT_SHORT
    assert core.drive(job_id).state is JobState.CANCELLED
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=3, cancelled=1)
    retry(core, job_id)
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id)


@pytest.mark.parametrize("is_planned", [False, True])
def test_a_window_that_closes_on_a_retry_expires_what_is_left(core: CoreMachine, is_planned: bool) -> None:  # noqa: FBT001
    job_id = ended(core)
    retry(core, job_id)
    if is_planned:
        core.prepare(job_id)
    core.window_closes(job_id)
    assert core.drive(job_id).state is JobState.EXPIRED
    core.checker.check_job(job_id)
    counts(core, job_id, succeeded=3, expired=4)


@pytest.mark.parametrize("is_planned", [False, True])
def test_a_retry_can_be_paused_and_resumed(core: CoreMachine, is_planned: bool) -> None:  # noqa: FBT001
    job_id = ended(core)
    retry(core, job_id)
    pause_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    if is_planned:
        assert core.prepare(job_id) is Prepared.PLANNED
    assert core.granted(job_id) == []
    counts(core, job_id, succeeded=3, pending=4)
    resume_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


# -- races


def test_of_two_retries_at_once_one_wins(core: CoreMachine) -> None:
    job_id = ended(core)
    barrier = threading.Barrier(4)

    def try_it(_: int) -> bool:
        barrier.wait()
        try:
            retry(core, job_id)
        except StateConflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(try_it, range(4))) == [False, False, False, True]
    assert core.job(job_id).attempt_runs == 1
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_a_cancel_and_a_retry_at_once_end_in_one_state(core: CoreMachine) -> None:
    for _ in range(4):
        job_id = stopped_half_way(core, "cancelled")
        with ThreadPoolExecutor(2) as pool:
            retrying = pool.submit(retry, core, job_id)
            cancelling = pool.submit(cancel, core, job_id)
            retrying.result()
            cancelling.result()  # of a cancelled job that is no error
        assert core.drive(job_id).state in {JobState.CANCELLED, JobState.SUCCEEDED}
        core.checker.check_job(job_id)


def test_an_expiry_that_was_late_does_not_stop_the_retry(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It found the job overdue, and then the job ended and was retried before it had the job's lock."""
    job_id = core.planned(MIX)
    core.window_closes(job_id)

    class Overtaken(expiring.Jobs):
        def overdue(self, limit: int) -> list[str]:
            monkeypatch.undo()
            found = list(super().overdue(limit))
            assert job_id in found
            core.sql("UPDATE jobs SET deadline_at = now() + interval '1 hour' WHERE id = :id", id=job_id)
            core.drive(job_id)
            retry(core, job_id)
            return found

    monkeypatch.setattr(expiring, "Jobs", Overtaken)
    expire_jobs(database=core.wiring.database)
    assert core.job(job_id).stop_reason is None
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_a_finaliser_that_was_late_does_not_end_the_retry(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closed the results of the first run while another finaliser had done so and the job was retried."""
    job_id = core.planned([healed("a"), good("b"), good("c"), good("d"), good("e")])
    core.run(core.granted(job_id)[0])
    cancel(core, job_id)
    store_never_ran = finishing.store_never_ran

    def overtaken(**arguments: Any) -> Any:
        monkeypatch.setattr(finishing, "store_never_ran", store_never_ran)
        assert core.finish(job_id) is Finished.FINISHED
        retry(core, job_id)
        core.prepare(job_id)
        return store_never_ran(**arguments)

    monkeypatch.setattr(finishing, "store_never_ran", overtaken)
    assert core.finish(job_id) is Finished.ALREADY
    assert core.job(job_id).state is JobState.QUEUED
    assert core.drive(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id)


def test_a_sweep_that_was_late_does_not_take_the_results_of_a_retry(
    core: CoreMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found the results past their time, and before it had the job's lock a retry that came just in time had it."""
    job_id = ended(core)
    core.sql("UPDATE jobs SET results_expire_at = now() - interval '1 day' WHERE id = :id", id=job_id)
    sweep_job = sweeping._sweep_job

    def overtaken(*arguments: Any) -> None:
        core.sql("UPDATE jobs SET results_expire_at = now() + interval '1 second' WHERE id = :id", id=job_id)
        retry(core, job_id)
        sweep_job(*arguments)

    monkeypatch.setattr(sweeping, "_sweep_job", overtaken)
    sweep_expired(wiring=core.wiring)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_neither_input_nor_results_are_swept_from_under_a_retry(core: CoreMachine) -> None:
    job_id = core.submit_batch(MIX)
    core.drive(job_id)
    retry(core, job_id)
    core.sql(
        "UPDATE files SET deleted_at = now() - interval '9 days' WHERE id = :id", id=core.job(job_id).input_file_id
    )
    sweep_expired(wiring=core.wiring)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_a_message_for_a_chunk_of_an_earlier_run_has_no_effect(core: CoreMachine) -> None:
    job_id = core.planned(MIX)
    granted = core.granted(job_id)
    for chunk_id in granted:
        core.run(chunk_id)
    core.drive(job_id)
    planned_again(core, job_id)
    assert {core.run(chunk_id) for chunk_id in granted} == {Ran.NOT_OURS}
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


# -- planning


def test_a_planner_that_died_leaves_the_retry_to_the_next(core: CoreMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = ended(core)
    retry(core, job_id)

    def dies(*_: Any, **__: Any) -> None:
        raise StorageUnavailable("the store does not answer")

    with monkeypatch.context() as patch:
        patch.setattr("app.services.plan_retry.chunk_spans", dies)
        with pytest.raises(StorageUnavailable):
            core.prepare(job_id)
    counts(core, job_id, succeeded=3, pending=4)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_of_two_planners_one_writes_the_chunks(core: CoreMachine) -> None:
    job_id = ended(core)
    retry(core, job_id)
    with ThreadPoolExecutor(2) as pool:
        planned = sorted(pool.map(lambda _: core.prepare(job_id), range(2)))
    assert planned == [Prepared.NOT_NEEDED, Prepared.PLANNED]
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def test_a_retry_whose_input_the_store_has_lost_is_taken_back(core: CoreMachine) -> None:
    job_id = ended(core)
    before = details(core, job_id)
    with core.wiring.storage.open(core.job(job_id).input_key) as reader:
        content = reader.read()
    core.wiring.storage.delete([core.job(job_id).input_key])
    retry(core, job_id)
    assert core.prepare(job_id) is Prepared.REFUSED
    core.patience_ends()
    assert core.drive(job_id).state is before.job.state
    put_back(core, job_id, content)
    core.checker.check_job(job_id, ENDED)
    after = details(core, job_id)
    assert (after.counts, after.errors_by_code, after.usage) == (before.counts, before.errors_by_code, before.usage)
    told = core.sql("SELECT data FROM events WHERE job_id = :id AND kind = 'retry_given_up'", id=job_id)
    assert [event["data"]["run"] for event in told] == [1]
    retry(core, job_id)  # and may be asked for again
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(MIX))


def put_back(core: CoreMachine, job_id: str, content: bytes) -> None:
    core.wiring.storage.put(core.job(job_id).input_key, io.BytesIO(content))


def test_a_window_that_is_changed_during_a_retry_counts_from_the_retry(core: CoreMachine) -> None:
    job_id = ended(core)
    core.sql("UPDATE jobs SET created_at = created_at - interval '9 hours' WHERE id = :id", id=job_id)
    retry(core, job_id)
    changes = {"completion_window": "1h"}
    update_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id, changes=changes)
    left = core.sql("SELECT extract(epoch FROM deadline_at - now()) AS s FROM jobs WHERE id = :id", id=job_id)
    assert 3590 < left[0]["s"] <= 3600


def test_a_retry_is_made_urgent_by_its_own_window_only(core: CoreMachine) -> None:
    job_id = ended(core, on_deadline=OnDeadline.ESCALATE, completion_window="10h")
    core.sql("UPDATE jobs SET created_at = created_at - interval '9 hours' WHERE id = :id", id=job_id)
    retry(core, job_id)
    assert escalate_jobs(database=core.wiring.database) == 0
    core.sql("UPDATE jobs SET window_from = now() - interval '60 hours' WHERE id = :id", id=job_id)
    assert escalate_jobs(database=core.wiring.database) == 1


@pytest.mark.parametrize(("n_workers", "n_chunks"), [(1, 2), (4, 4)])
def test_what_runs_again_is_cut_for_the_workers_that_live(core: CoreMachine, n_workers: int, n_chunks: int) -> None:
    job_id = core.planned([failing(str(n)) if n % 4 == 0 else good(str(n)) for n in range(16)])
    core.drive(job_id)
    target_s = core.wiring.settings.chunk_target_s
    core.sql("UPDATE chunks SET estimated_s = :s WHERE job_id = :id", s=2 * target_s, id=job_id)  # half of it a failure
    for number in range(n_workers):
        core.worker_lives(f"cpu.{number}", f"worker-{number}")
    retry(core, job_id)
    core.prepare(job_id)
    assert len([chunk for chunk in core.chunks(job_id) if chunk["run"] == 1]) == n_chunks


def test_retries_at_once_do_not_pass_the_cap_on_unfinished_jobs_together(core: CoreMachine) -> None:
    job_ids = [core.planned([failing("a")]) for _ in range(8)]
    for job_id in job_ids:
        core.drive(job_id)
    capped = replace(core.wiring, settings=replace(core.wiring.settings, max_queued_jobs=2))

    def is_retried(job_id: str) -> bool:
        try:
            retry_job(wiring=capped, tenant_id=core.tenant_id, job_id=job_id)
        except QueueFull:
            return False
        return True

    with ThreadPoolExecutor(len(job_ids)) as threads:
        assert sum(threads.map(is_retried, job_ids)) == 2
