"""Cancel and expiry in every state of a job: one end, what finished is kept, nothing waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from core_machine import CoreMachine, HeldUp, Interrupted
from seeded_work import Expected, expected_of, failing, good, retried

from app.domain.jobs import JobDetails
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.errors import NotFound, StateConflict
from app.services.cancel_job import cancel_job
from app.services.expire_jobs import expire_jobs
from app.services.finish_job import Finished
from app.services.preparation import Prepared
from app.services.run_chunk import Ran

Stop = Callable[[CoreMachine, str], None]
NEVER = Expected("succeeded", may_be_stopped=True)


def cancel(core: CoreMachine, job_id: str) -> JobDetails:
    return cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def expire(core: CoreMachine, job_id: str) -> None:
    core.window_closes(job_id)
    expire_jobs(database=core.wiring.database)


stopped_by = pytest.mark.parametrize(
    ("stop", "end"), [(cancel, JobState.CANCELLED), (expire, JobState.EXPIRED)], ids=["cancelled", "expired"]
)


def statuses(core: CoreMachine, job_id: str) -> dict[str, str]:
    return {name: line.status for name, line in core.checker.results(job_id).items()}


@stopped_by
def test_a_job_that_was_not_yet_planned_ends_with_a_line_for_each_item(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    job_id = core.submit([good("a"), good("b")])
    stop(core, job_id)
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": end, "b": end}


@stopped_by
def test_a_job_that_was_not_yet_planned_and_whose_input_is_refused_ends_all_the_same(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    job_id = core.submit_content(b"not json\n")
    stop(core, job_id)
    assert core.drive(job_id).state in {end, JobState.FAILED}
    core.checker.check_job(job_id)


@stopped_by
def test_a_queued_job_ends_without_having_run(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good(f"item-{number}") for number in range(9)])
    stop(core, job_id)
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert set(statuses(core, job_id).values()) == {end}


@stopped_by
def test_a_job_whose_input_the_store_has_lost_ends_all_the_same(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good("a"), good("b")])
    core.wiring.storage.delete([core.job(job_id).input_key])
    stop(core, job_id)
    assert core.drive(job_id).state is end
    assert statuses(core, job_id) == {"line 1": end, "line 2": end}


@stopped_by
def test_a_granted_chunk_does_not_run_any_more(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    stop(core, job_id)
    assert core.run(chunk_id) is Ran.NOT_OURS
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)


@stopped_by
def test_a_running_chunk_comes_to_its_end_and_is_kept(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good(f"item-{number}") for number in range(9)])
    chunk_id = core.granted(job_id)[0]
    assert core.run(chunk_id, runner=Interrupted(core.runner, lambda: stop(core, job_id))) is Ran.DONE
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    found = list(statuses(core, job_id).values())
    assert (found.count("succeeded"), found.count(end)) == (4, 5)


@stopped_by
def test_a_running_chunk_stops_where_it_is_and_keeps_what_it_finished(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    job_id = core.planned([good("a"), retried("b"), good("c"), good("d")])
    (chunk_id,) = core.granted(job_id)
    held_up = HeldUp(core.runner, after=2, act=lambda: stop(core, job_id))
    assert core.run(chunk_id, runner=held_up) is Ran.CUT_SHORT
    assert core.finish(job_id) is Finished.FINISHED  # the callback of its wave finds nothing left to run
    assert core.job(job_id).state is end
    core.checker.check_job(job_id)
    found = statuses(core, job_id)
    assert sorted(found.values()) == sorted(["succeeded", "succeeded", end, end])


@stopped_by
def test_a_chunk_of_which_nothing_is_finished_is_closed_as_it_is(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good("a"), good("b")])
    (chunk_id,) = core.granted(job_id)
    held_up = HeldUp(core.runner, after=0, act=lambda: stop(core, job_id))
    assert core.run(chunk_id, runner=held_up) is Ran.STOPPED
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert [chunk["state"] for chunk in core.chunks(job_id)] == [end]
    assert set(statuses(core, job_id).values()) == {end}


@stopped_by
def test_a_stopped_chunk_of_chosen_items_remembers_their_attempts(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([retried("a"), retried("b"), retried("c")])
    core.run(core.granted(job_id)[0])
    core.waiting_is_over(job_id)
    (recovery,) = core.granted(job_id)
    assert core.run(recovery, runner=HeldUp(core.runner, 1, lambda: stop(core, job_id))) is Ran.CUT_SHORT
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    attempts = {line.status: line.attempts for line in core.checker.results(job_id).values()}
    assert attempts == {"succeeded": 2, end: 1}


@stopped_by
def test_an_engine_stops_by_itself_in_the_middle_of_a_long_item(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good("a"), good("slow", delay_s=60)])
    (chunk_id,) = core.granted(job_id)
    started_s = time.monotonic()
    assert core.run(chunk_id, runner=Interrupted(core.runner, lambda: stop(core, job_id))) is Ran.CUT_SHORT
    assert time.monotonic() - started_s < 5
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": "succeeded", "slow": end}


@stopped_by
def test_items_that_wait_for_another_attempt_end_with_their_job(core: CoreMachine, stop: Stop, end: JobState) -> None:
    job_id = core.planned([good("a"), failing("b", code="rate_limited")])
    core.run(core.granted(job_id)[0])
    stop(core, job_id)
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": "succeeded", "b": end}
    assert core.checker.results(job_id)["b"].attempts == 1


@stopped_by
def test_items_that_fail_for_now_while_their_job_is_stopped_end_with_it(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    """The running chunk adds a recovery chunk after every waiting chunk was closed."""
    job_id = core.planned([good("a"), retried("b")])
    chunk_id = core.granted(job_id)[0]
    assert core.run(chunk_id, runner=Interrupted(core.runner, lambda: stop(core, job_id))) is Ran.DONE
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": "succeeded", "b": end}


@stopped_by
def test_a_chunk_whose_worker_died_after_the_stop_ends_with_its_job(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    job_id = core.planned([good("a")])
    chunk_id = core.granted(job_id)[0]

    class WorkerDied(BaseException):
        """As SIGKILL."""

    def stop_and_die() -> None:
        stop(core, job_id)
        raise WorkerDied

    with pytest.raises(WorkerDied):
        core.run(chunk_id, runner=Interrupted(core.runner, stop_and_die))
    core.lease_runs_out(chunk_id)
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": end}


@stopped_by
def test_a_redelivered_chunk_of_a_stopped_job_is_closed_without_running(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    job_id = core.planned([good("a")])
    chunk_id = core.granted(job_id)[0]
    seen: list[Ran] = []

    def stop_and_take_over() -> None:
        stop(core, job_id)
        seen.append(core.run(chunk_id, holder="worker-2"))

    assert core.run(chunk_id, runner=Interrupted(core.runner, stop_and_take_over)) is Ran.LEASE_LOST
    assert seen == [Ran.STOPPED]
    assert core.drive(job_id).state is end
    core.checker.check_job(job_id)


def test_cancelling_twice_is_no_error_and_keeps_the_first_moment(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    first, second = cancel(core, job_id), cancel(core, job_id)
    assert second.job.state is JobState.CANCELLING
    assert first.job.cancelling_at == second.job.cancelling_at
    core.drive(job_id)
    assert cancel(core, job_id).job.state is JobState.CANCELLED


@pytest.mark.parametrize("items", [[good("a")], [good("a"), failing("b")], [failing("b")]])
def test_a_job_that_has_ended_cannot_be_cancelled(core: CoreMachine, items: list[object]) -> None:
    job_id = core.submit(items)  # type: ignore[arg-type]
    state = core.drive(job_id).state
    with pytest.raises(StateConflict) as refused:
        cancel(core, job_id)
    assert (refused.value.current, core.job(job_id).state) == (state, state)
    core.checker.check_job(job_id)


def test_another_tenant_cannot_cancel(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    with pytest.raises(NotFound):
        cancel_job(wiring=core.wiring, tenant_id="somebody else", job_id=job_id)
    assert core.job(job_id).state is JobState.QUEUED


def test_a_job_within_its_window_is_left_alone(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    expire_jobs(database=core.wiring.database)
    assert core.job(job_id).stop_reason is None


def test_cancel_finish_and_expiry_at_once_give_one_end(core: CoreMachine) -> None:
    items = [good("a"), good("b")]
    for _ in range(5):
        job_id = core.planned(items)
        core.run(core.granted(job_id)[0])
        core.window_closes(job_id)

        def try_cancel(job_id: str = job_id) -> None:
            try:
                cancel(core, job_id)
            except StateConflict as conflict:
                assert conflict.current in {*TERMINAL_JOB_STATES, JobState.FINALIZING}  # noqa: PT017 - may also succeed

        acts = [
            lambda job_id=job_id: core.finish(job_id),
            try_cancel,
            lambda: expire_jobs(database=core.wiring.database),
            lambda job_id=job_id: core.finish(job_id),
        ]
        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(act) for act in acts]:
                done.result()
        core.drive(job_id)
        core.checker.check_job(job_id, expected_of(items))


def test_two_cancels_at_once_are_one(core: CoreMachine) -> None:
    for _ in range(5):
        job_id = core.planned([good("a"), good("b")])
        with ThreadPoolExecutor(4) as pool:
            states = {
                details.job.state for details in pool.map(lambda _, job_id=job_id: cancel(core, job_id), range(4))
            }
        assert states == {JobState.CANCELLING}
        core.drive(job_id)
        core.checker.check_job(job_id)


@stopped_by
def test_a_stop_and_a_chunk_that_leaves_items_to_try_again_at_once(
    core: CoreMachine, stop: Stop, end: JobState
) -> None:
    """Whichever comes first: the recovery chunk is closed with its job and runs no more."""
    for round_ in range(5):
        job_id = core.planned([good("a"), retried("b"), good("c", delay_s=0.01 * round_)])
        (chunk_id,) = core.granted(job_id)
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(core.run, chunk_id), pool.submit(stop, core, job_id)]:
                done.result()
        assert core.drive(job_id).state is end
        core.checker.check_job(job_id)
        assert statuses(core, job_id)["b"] == end


def test_two_finalisers_at_once_close_a_job_once(core: CoreMachine) -> None:
    for _ in range(5):
        job_id = core.planned([good(f"item-{number}") for number in range(9)])
        core.run(core.granted(job_id)[0])
        cancel(core, job_id)
        with ThreadPoolExecutor(4) as pool:
            ended = list(pool.map(lambda _, job_id=job_id: core.finish(job_id), range(4)))
        assert ended.count(Finished.FINISHED) == 1
        core.checker.check_job(job_id)


def test_a_stop_after_the_last_chunk_keeps_every_outcome(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    core.run(core.granted(job_id)[0])
    cancel(core, job_id)
    assert core.drive(job_id).state is JobState.CANCELLED
    core.checker.check_job(job_id)
    assert statuses(core, job_id) == {"a": "succeeded"}


def test_a_planner_that_is_overtaken_by_a_cancel_still_plans(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    cancel(core, job_id)
    assert core.prepare(job_id) is Prepared.PLANNED
    assert [chunk["state"] for chunk in core.chunks(job_id)] == ["cancelled"]
    assert core.prepare(job_id) is Prepared.NOT_NEEDED
