"""A worker that is told to end hands back what it has not run, keeps what it has, and is not counted as dead."""

from __future__ import annotations

from core_machine import CoreMachine, HeldUp
from seeded_work import expected_of, failing, good, retried

from app.services.run_chunk import Ran


class Leaving:
    """A worker's flag."""

    def __init__(self) -> None:
        self.is_set = False

    def set(self) -> None:
        self.is_set = True

    def __call__(self) -> bool:
        return self.is_set


def test_what_a_leaving_worker_has_not_run_goes_to_another(core: CoreMachine) -> None:
    items = [good("a"), good("b"), failing("c"), retried("d")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    leaving = Leaving()
    held_up = HeldUp(core.runner, after=2, act=leaving.set)
    assert core.run(chunk_id, runner=held_up, is_leaving=leaving) is Ran.CUT_SHORT
    done, rest = core.chunks(job_id)
    assert (done["state"], done["n_succeeded"] + done["n_failed"] + done["n_deferred"]) == ("done", 4)
    assert (rest["state"], rest["n_items"], rest["worker_deaths"]) == ("pending", 2, 0)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_chunk_that_reaches_a_leaving_worker_is_handed_on_as_it_is(core: CoreMachine) -> None:
    items = [good("a", delay_s=5), good("b")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    leaving = Leaving()
    leaving.set()
    assert core.run(chunk_id, is_leaving=leaving) is Ran.HANDED_BACK
    (chunk,) = core.chunks(job_id)
    assert (chunk["state"], chunk["worker_deaths"]) == ("pending", 0)
    assert core.granted(job_id) == [chunk_id]  # at once


def test_deaths_on_a_chunk_are_remembered_by_what_is_left_of_it(core: CoreMachine) -> None:
    job_id = core.planned([good("a"), good("b"), good("c")])
    (chunk_id,) = core.granted(job_id)
    core.sql("UPDATE chunks SET worker_deaths = 1 WHERE id = :id", id=chunk_id)
    leaving = Leaving()
    core.run(chunk_id, runner=HeldUp(core.runner, after=1, act=leaving.set), is_leaving=leaving)
    assert [chunk["worker_deaths"] for chunk in core.chunks(job_id)] == [1, 1]


def test_a_worker_whose_chunk_was_taken_over_while_it_left_writes_nothing(core: CoreMachine) -> None:
    items = [good("a"), good("b")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    leaving = Leaving()

    def overtaken() -> None:
        assert core.run(chunk_id, holder="worker-2") is Ran.DONE
        leaving.set()

    held_up = HeldUp(core.runner, after=1, act=overtaken)
    assert core.run(chunk_id, runner=held_up, is_leaving=leaving) is Ran.LEASE_LOST
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
