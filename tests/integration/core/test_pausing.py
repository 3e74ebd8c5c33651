"""Pause and resume in every state of a job: nothing starts, nothing is lost, and every race has one end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from core_machine import CoreMachine, HeldUp
from seeded_work import expected_of, failing, good, mixed, retried

from app.domain.items import ItemOutcome
from app.domain.jobs import JobDetails
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.errors import NotFound, StateConflict
from app.ports import RunRequest
from app.services.cancel_job import cancel_job
from app.services.expire_jobs import expire_jobs
from app.services.pause_job import pause_job
from app.services.preparation import Prepared
from app.services.resume_job import resume_job
from app.services.run_chunk import Ran


def pause(core: CoreMachine, job_id: str) -> JobDetails:
    return pause_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def resume(core: CoreMachine, job_id: str) -> JobDetails:
    return resume_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def cancel(core: CoreMachine, job_id: str) -> JobDetails:
    return cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)


def test_a_paused_job_is_granted_nothing_and_says_why_it_waits(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    details = pause(core, job_id)
    assert (details.job.state, details.waiting and details.waiting.reason) == (JobState.PAUSED, "paused")
    assert core.granted(job_id) == []
    assert resume(core, job_id).waiting is None
    assert len(core.granted(job_id)) == 1


def test_pausing_and_resuming_twice_is_no_error(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    assert [pause(core, job_id).job.state for _ in range(2)] == [JobState.PAUSED] * 2
    assert [resume(core, job_id).job.state for _ in range(2)] == [JobState.QUEUED] * 2


def test_what_was_published_is_taken_back_and_its_message_finds_nothing(core: CoreMachine) -> None:
    items = [good("a"), retried("b")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    pause(core, job_id)
    assert core.chunk(chunk_id)["state"] == "pending"
    assert core.run(chunk_id) is Ran.NOT_OURS
    resume(core, job_id)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_running_chunk_stops_keeps_what_it_finished_and_the_rest_goes_on_when_resumed(core: CoreMachine) -> None:
    items = [good("a"), failing("b"), good("c"), retried("d")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    held_up = HeldUp(core.runner, after=2, act=lambda: pause(core, job_id))
    assert core.run(chunk_id, runner=held_up) is Ran.CUT_SHORT
    paused = pause(core, job_id)
    assert (paused.counts.pending, paused.counts.finished) == (2, 2)
    assert core.granted(job_id) == []
    assert resume(core, job_id).job.state is JobState.RUNNING
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_run_that_heard_of_a_pause_which_is_over_by_now_is_no_fault_of_the_engine(core: CoreMachine) -> None:
    items = [good("a"), good("b"), good("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    stopped = HeldUp(core.runner, after=1, act=lambda: pause(core, job_id))

    class ResumedMeanwhile:
        def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
            yield from stopped.run(request)
            resume(core, job_id)

    assert core.run(chunk_id, runner=ResumedMeanwhile()) is Ran.CUT_SHORT
    assert {chunk["worker_deaths"] for chunk in core.chunks(job_id)} == {0}
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_job_that_is_paused_before_it_is_planned_is_planned_and_waits(core: CoreMachine) -> None:
    items = [good("a")]
    job_id = core.submit(items)
    pause(core, job_id)
    core.look()
    assert core.publisher.prepares == [job_id]
    assert core.prepare(job_id) is Prepared.PLANNED
    assert core.job(job_id).state is JobState.PAUSED
    assert resume(core, job_id).job.state is JobState.QUEUED
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_job_that_is_resumed_before_it_is_planned_goes_on_validating(core: CoreMachine) -> None:
    job_id = core.submit([good("a")])
    pause(core, job_id)
    assert resume(core, job_id).job.state is JobState.VALIDATING
    core.drive(job_id)
    core.checker.check_job(job_id)


def test_a_paused_job_whose_input_is_refused_fails(core: CoreMachine) -> None:
    job_id = core.submit_content(b"not json\n")
    pause(core, job_id)
    assert core.prepare(job_id) is Prepared.REFUSED
    assert core.job(job_id).state is JobState.FAILED
    core.checker.check_job(job_id)


def test_a_paused_job_can_be_cancelled(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    pause(core, job_id)
    cancel(core, job_id)
    assert core.drive(job_id).state is JobState.CANCELLED
    core.checker.check_job(job_id)


@pytest.mark.parametrize("is_planned", [True, False])
def test_the_window_of_a_paused_job_closes_all_the_same(core: CoreMachine, *, is_planned: bool) -> None:
    job_id = core.submit([good("a")])
    if is_planned:
        core.prepare(job_id)
    pause(core, job_id)
    core.window_closes(job_id)
    assert core.drive(job_id).state is JobState.EXPIRED
    core.checker.check_job(job_id)


def test_a_job_whose_window_has_closed_is_neither_paused_nor_resumed(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    pause(core, job_id)
    core.window_closes(job_id)
    expire_jobs(database=core.wiring.database)
    with pytest.raises(StateConflict):
        resume(core, job_id)
    other = core.planned([good("a")])
    core.window_closes(other)
    expire_jobs(database=core.wiring.database)
    with pytest.raises(StateConflict):
        pause(core, other)


def test_a_paused_job_of_which_nothing_is_left_ends(core: CoreMachine) -> None:
    """The pause came while its last chunk was being committed."""
    items = [good("a"), failing("b")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    core.run(chunk_id)
    pause(core, job_id)
    core.finish(job_id)
    core.checker.check_job(job_id, expected_of(items))


@pytest.mark.parametrize("steer", [pause, resume])
def test_a_job_that_has_ended_or_is_being_cancelled_is_left_alone(
    core: CoreMachine, steer: Callable[[CoreMachine, str], JobDetails]
) -> None:
    job_id = core.planned([good("a")])
    cancel(core, job_id)
    for state in (JobState.CANCELLING, JobState.CANCELLED):
        with pytest.raises(StateConflict) as refused:
            steer(core, job_id)
        assert refused.value.current == state
        core.drive(job_id)


@pytest.mark.parametrize("steer", [pause_job, resume_job])
def test_another_tenant_cannot_steer(core: CoreMachine, steer: Callable[..., JobDetails]) -> None:
    job_id = core.planned([good("a")])
    with pytest.raises(NotFound):
        steer(wiring=core.wiring, tenant_id="somebody else", job_id=job_id)
    assert core.job(job_id).state is JobState.QUEUED


def _at_once(*acts: Callable[[], object]) -> None:
    """Do all of it at the same moment; only a conflict is an answer, everything else is a failure."""

    def tried(act: Callable[[], object]) -> None:
        try:
            act()
        except StateConflict as conflict:
            assert conflict.current  # noqa: PT017 - may also succeed

    with ThreadPoolExecutor(len(acts)) as pool:
        for done in [pool.submit(tried, act) for act in acts]:
            done.result()


def test_pause_resume_cancel_expiry_and_finish_at_once_give_one_end(core: CoreMachine) -> None:
    items = [good("a"), failing("b")]
    for round_ in range(6):
        job_id = core.planned(items)
        core.run(core.granted(job_id)[0])
        if round_ % 2:
            core.window_closes(job_id)
        _at_once(
            lambda job_id=job_id: pause(core, job_id),
            lambda job_id=job_id: core.finish(job_id),
            lambda job_id=job_id: resume(core, job_id),
            lambda round_=round_, job_id=job_id: cancel(core, job_id) if round_ % 3 == 0 else None,
            lambda: expire_jobs(database=core.wiring.database),
        )
        core.drive(job_id)
        core.checker.check_job(job_id, expected_of(items))


def test_stops_and_a_running_chunk_at_once_lose_and_double_nothing(core: CoreMachine) -> None:
    for round_ in range(6):
        items = mixed(12, seed=round_, delay_s=0.01)
        job_id = core.planned(items)
        chunk_ids = core.granted(job_id)
        stop = (pause, cancel, lambda core, job_id: core.window_closes(job_id))[round_ % 3]
        _at_once(
            *(lambda chunk_id=chunk_id: core.run(chunk_id) for chunk_id in chunk_ids),
            lambda job_id=job_id, stop=stop: stop(core, job_id),
            lambda: expire_jobs(database=core.wiring.database),
            lambda job_id=job_id: core.finish(job_id),
        )
        if core.job(job_id).state is JobState.PAUSED:
            resume(core, job_id)
        assert core.drive(job_id).state in TERMINAL_JOB_STATES
        core.checker.check_job(job_id)
        lines = core.checker.results(job_id)
        assert {
            name: line.status for name, line in lines.items() if line.status in {"succeeded", "failed"}
        }.items() <= {item.custom_id: item.expected.status for item in items}.items()
