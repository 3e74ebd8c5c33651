"""Claiming, fencing and taking over: a chunk's outcome is written once, by whoever holds its lease."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from core_machine import CoreMachine, Interrupted
from seeded_work import crashing, expected_of, failing, good, mixed, retried
from sqlalchemy import text

from app.db.repositories.chunks import Chunks
from app.db.repositories.outcomes import Outcomes
from app.domain.chunks import ChunkOutcome, NewPart
from app.domain.items import ItemOutcome
from app.domain.states import JobState
from app.errors import DatabaseUnavailable, LeaseLost, StorageUnavailable
from app.ports import RunRequest
from app.services.chunk_commit import ChunkCommit
from app.services.run_chunk import Ran
from app.wiring import Wiring

OUTCOME = ChunkOutcome(
    n_succeeded=1, n_failed=0, n_deferred=0, input_tokens=1, output_tokens=0, device_s=0.0, errors_by_code={}
)


class WorkerDied(BaseException):
    """Ends a run as SIGKILL would: nothing of ours gets to see it."""


def die() -> None:
    raise WorkerDied


def run_and_die(core: CoreMachine, chunk_id: int, *, holder: str) -> None:
    with pytest.raises(WorkerDied):
        core.run(chunk_id, holder=holder, runner=Interrupted(core.runner, die))


def test_a_message_delivered_three_times_in_turn_has_one_effect(core: CoreMachine) -> None:
    items = [good("a"), retried("b"), failing("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    assert [core.run(chunk_id) for _ in range(3)] == [Ran.DONE, Ran.NOT_OURS, Ran.NOT_OURS]
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_message_delivered_three_times_at_once_has_one_effect(core: CoreMachine) -> None:
    items = [good("a", delay_s=0.2), retried("b"), failing("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda _: core.run(chunk_id), range(3)))
    assert sorted(ran) == sorted([Ran.DONE, Ran.NOT_OURS, Ran.NOT_OURS])
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_a_chunk_that_was_not_granted_is_nobodys(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    chunk_id = core.chunks(job_id)[0]["id"]
    assert core.run(chunk_id) is Ran.NOT_OURS
    assert core.run(987_654_321) is Ran.NOT_OURS
    assert core.chunk(chunk_id)["attempt"] == 0


def test_a_new_incarnation_on_the_same_queue_takes_over_at_once(core: CoreMachine) -> None:
    items = [good("a"), good("b")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    run_and_die(core, chunk_id, holder="worker-1")
    assert core.chunk(chunk_id)["state"] == "running"
    assert core.run(chunk_id, holder="worker-2") is Ran.DONE
    chunk = core.chunk(chunk_id)
    assert (chunk["attempt"], chunk["worker_deaths"]) == (2, 1)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_the_history_tells_what_a_chunk_went_through(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    run_and_die(core, chunk_id, holder="worker-0")  # of which nothing more is heard
    core.lease_runs_out(chunk_id)
    core.granted(job_id)
    core.run(chunk_id, holder="worker-1")
    told = core.sql("SELECT kind, data FROM events WHERE chunk_id = :id ORDER BY id", id=chunk_id)
    assert [(event["kind"], event["data"]["attempt"], event["data"]["worker_deaths"]) for event in told] == [
        ("chunk_granted", 0, 0),
        ("chunk_running", 1, 0),
        ("chunk_pending", 1, 1),
        ("chunk_granted", 1, 1),
        ("chunk_running", 2, 1),
        ("chunk_done", 2, 1),
    ]
    assert told[-1]["data"]["succeeded"] == 1


def test_the_same_incarnation_does_not_take_over_from_itself(core: CoreMachine) -> None:
    """A broken connection redelivers to the worker whose child still runs the chunk."""
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    seen: list[Ran] = []
    again = Interrupted(core.runner, lambda: seen.append(core.run(chunk_id, holder="worker-1")))
    assert core.run(chunk_id, holder="worker-1", runner=again) is Ran.DONE
    assert seen == [Ran.NOT_OURS]


def test_a_worker_of_another_queue_takes_over_only_when_the_lease_ran_out(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    run_and_die(core, chunk_id, holder="worker-1")
    assert core.run(chunk_id, queue="cpu.1", holder="worker-9") is Ran.NOT_OURS
    core.lease_runs_out(chunk_id)
    assert core.run(chunk_id, queue="cpu.1", holder="worker-9") is Ran.DONE
    core.drive(job_id)
    core.checker.check_job(job_id)


def test_what_a_stale_worker_still_writes_has_no_effect(core: CoreMachine) -> None:
    items = [good("a"), retried("b"), failing("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    taken_over = Interrupted(core.runner, lambda: _assert_done(core, chunk_id))
    assert core.run(chunk_id, holder="worker-1", runner=taken_over) is Ran.LEASE_LOST
    assert core.chunk(chunk_id)["attempt"] == 2
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def _assert_done(core: CoreMachine, chunk_id: int) -> None:
    assert core.run(chunk_id, holder="worker-2") is Ran.DONE


def test_a_worker_whose_lease_was_taken_back_stops_and_writes_nothing(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)

    def freeze() -> None:
        core.lease_runs_out(chunk_id)
        core.look()

    assert core.run(chunk_id, holder="frozen", runner=Interrupted(core.runner, freeze)) is Ran.LEASE_LOST
    assert core.chunk(chunk_id)["worker_deaths"] == 1
    core.drive(job_id)
    core.checker.check_job(job_id)


def test_a_lease_is_kept_while_the_engine_works(core: CoreMachine) -> None:
    short = replace(core, wiring=replace(core.wiring, settings=replace(core.wiring.settings, lease_s=0.6)))
    job_id = core.planned([good("a", delay_s=1.5)])
    (chunk_id,) = core.granted(job_id)
    assert short.run(chunk_id) is Ran.DONE
    assert core.chunk(chunk_id)["attempt"] == 1


def test_what_an_engine_raises_counts_as_a_death_and_the_item_at_fault_stands_alone_in_the_end(
    core: CoreMachine,
) -> None:
    items = [*(good(name) for name in "abc"), crashing("poison"), *(good(name) for name in "def")]
    job_id = core.planned(items)
    killer = _RaisesOn(core, "poison")
    core = replace(core, runner=killer)
    assert core.drive(job_id).state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))
    assert killer.n_deaths <= 2 * 3


class _RaisesOn:
    """The engine, dying on one item."""

    def __init__(self, core: CoreMachine, custom_id: str) -> None:
        self._runner = core.runner
        self._custom_id = custom_id
        self.n_deaths = 0

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        items = list(request.items)
        if any(item.custom_id == self._custom_id for item in items):
            self.n_deaths += 1
            raise RuntimeError("segmentation fault, as it were")
        return self._runner.run(replace(request, items=items))


def test_two_poisons_in_a_chunk_are_both_found_and_their_neighbours_succeed(core: CoreMachine) -> None:
    items = [good("a"), crashing("p1"), good("b"), crashing("p2")]
    job_id = core.planned(items)
    for _ in range(40):
        if core.job(job_id).finished_at:
            break
        core.waiting_is_over(job_id)
        for chunk_id in core.granted(job_id):
            _run_mortally(core, chunk_id)
        core.finish(job_id)
    core.checker.check_job(job_id, expected_of(items))


def _run_mortally(core: CoreMachine, chunk_id: int) -> None:
    """Run a chunk as its message would be redelivered, the worker dying whenever a crashing item is reached."""
    for incarnation in range(10):
        try:
            core.run(chunk_id, holder=f"worker-{incarnation}", runner=_DiesOn(core))
        except WorkerDied:
            continue
        return


class _DiesOn:
    def __init__(self, core: CoreMachine) -> None:
        self._runner = core.runner

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        items = list(request.items)
        if any(item.body.get("echo", {}).get("crash") for item in items):
            raise WorkerDied
        return self._runner.run(replace(request, items=items))


@pytest.mark.parametrize("fault", ["too few", "too many", "of another chunk", "reads nothing"])
def test_an_engine_that_breaks_its_contract_never_loses_or_doubles_an_item(core: CoreMachine, fault: str) -> None:
    items = [good("a"), good("b")]
    job_id = core.planned(items)
    core = replace(core, runner=_Liar(core, fault))
    core.drive(job_id)
    core.checker.check_job(job_id)
    assert {line.code for line in core.checker.results(job_id).values()} == {"worker_crash"}


class _Liar:
    def __init__(self, core: CoreMachine, fault: str) -> None:
        self._runner = core.runner
        self._fault = fault

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        if self._fault == "reads nothing":
            return iter(())
        outcomes = list(self._runner.run(request))
        wrong = {
            "too few": outcomes[:-1],
            "too many": [*outcomes, outcomes[0]],
            "of another chunk": [*outcomes[:-1], replace(outcomes[0], index=10_000)],
        }
        return iter(wrong[self._fault])


class _FailingStorage:
    """The real store, that is away for some calls."""

    def __init__(self, wiring: Wiring, *, n_failures: int, method: str) -> None:
        self._storage = wiring.storage
        self._left = n_failures
        self._method = method

    def __getattr__(self, name: str) -> object:
        if name == self._method and self._left > 0:
            self._left -= 1
            return _unavailable
        return getattr(self._storage, name)


def _unavailable(*_args: object, **_kwargs: object) -> None:
    raise StorageUnavailable("the object store does not answer")


@pytest.mark.parametrize("method", ["open", "put"])
def test_a_store_that_is_away_hands_the_chunk_back_and_accuses_nobody(core: CoreMachine, method: str) -> None:
    items = mixed(8, seed=3)
    job_id = core.planned(items)
    storage = _FailingStorage(core.wiring, n_failures=3, method=method)
    away = replace(core, wiring=replace(core.wiring, storage=storage))
    chunk_ids = core.granted(job_id)
    assert {away.run(chunk_id) for chunk_id in chunk_ids} == {Ran.HANDED_BACK}
    assert all(core.chunk(chunk_id)["worker_deaths"] == 0 for chunk_id in chunk_ids)
    away.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_an_input_that_comes_short_costs_no_item(core: CoreMachine) -> None:
    items = [good("a"), good("b"), good("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    core.sql("UPDATE chunks SET byte_end = byte_end - 80 WHERE id = :id", id=chunk_id)
    short = core.chunk(chunk_id)["byte_end"]
    assert core.run(chunk_id) is Ran.HANDED_BACK
    assert core.chunk(chunk_id)["worker_deaths"] == 0
    core.sql("UPDATE chunks SET byte_end = :end WHERE id = :id", end=short + 80, id=chunk_id)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


class _FlakyDatabase:
    """The real database, whose answer to the nth commit is lost: before it took place, or after."""

    def __init__(self, core: CoreMachine, *, fails_after_commit: bool, on: int) -> None:
        self._database = core.wiring.database
        self._fails_after_commit = fails_after_commit
        self._on = on
        self._n_begun = 0
        self._counting = threading.Lock()

    def begin(self) -> object:
        with self._counting:
            self._n_begun += 1
            if self._n_begun != self._on:
                return self._database.begin()
        return self._broken()

    def _broken(self) -> object:
        from contextlib import contextmanager

        @contextmanager
        def broken() -> Iterator[object]:
            if self._fails_after_commit:
                with self._database.begin() as connection:
                    yield connection
                raise DatabaseUnavailable("the answer was lost")
            with self._database.begin() as connection:
                yield connection
                connection.execute(text("ROLLBACK"))
            raise DatabaseUnavailable("the commit was lost")

        return broken()


@pytest.mark.parametrize("fails_after_commit", [True, False])
def test_a_commit_whose_answer_is_lost_takes_effect_once(core: CoreMachine, *, fails_after_commit: bool) -> None:
    items = [good("a"), retried("b"), failing("c")]
    job_id = core.planned(items)
    (chunk_id,) = core.granted(job_id)
    database = _FlakyDatabase(core, fails_after_commit=fails_after_commit, on=2)  # the first claims, the second commits
    flaky = replace(core, wiring=replace(core.wiring, database=database))
    assert flaky.run(chunk_id) is Ran.DONE
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
    assert core.chunk(chunk_id)["attempt"] == 1


def test_an_outcome_is_refused_under_another_token(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    run_and_die(core, chunk_id, holder="worker-1")
    with core.wiring.database.begin() as connection:
        chunk = Chunks(connection).get(chunk_id)
    assert chunk is not None
    part = NewPart(outcome="succeeded", object_key="parts/x", size_bytes=1, n_items=1, sha256="")
    stale = ChunkCommit(core.wiring.database, job=core.job(job_id), chunk=chunk, token="another", lease_s=1)
    with pytest.raises(LeaseLost):
        stale.done(outcome=OUTCOME, parts=[part], recovery=None, run_s=0.1)
    with core.wiring.database.begin() as connection:
        assert Outcomes(connection).part_totals(job_id) == {}
    assert core.chunk(chunk_id)["state"] == "running"


def test_a_chunk_that_was_closed_by_a_stop_is_not_taken_for_our_commit(core: CoreMachine) -> None:
    job_id = core.planned([good("a")])
    (chunk_id,) = core.granted(job_id)
    run_and_die(core, chunk_id, holder="worker-1")
    with core.wiring.database.begin() as connection:
        chunk = Chunks(connection).get(chunk_id)
    assert chunk is not None
    core.lease_runs_out(chunk_id)
    core.window_closes(job_id)
    core.look()
    assert core.chunk(chunk_id)["state"] == "expired"
    late = ChunkCommit(
        core.wiring.database, job=core.job(job_id), chunk=chunk, token=chunk.lease_token or "", lease_s=1
    )
    with pytest.raises(LeaseLost):
        late.done(outcome=OUTCOME, parts=[], recovery=None, run_s=0.1)


def test_a_recovery_chunk_remembers_each_items_attempts(core: CoreMachine) -> None:
    job_id = core.planned([good("a"), retried("b", fail_times=2), retried("c"), good("d")])
    (chunk_id,) = core.granted(job_id)
    core.run(chunk_id)
    _, recovery = core.chunks(job_id)
    assert [(index, attempts) for index, _, _, attempts in recovery["items"]] == [(1, 1), (2, 1)]
    assert recovery["not_before"] > recovery["created_at"]
    core.waiting_is_over(job_id)
    core.run(core.granted(job_id)[0])
    *_, second = core.chunks(job_id)
    assert [(index, attempts) for index, _, _, attempts in second["items"]] == [(1, 2)]
    core.drive(job_id)
    core.checker.check_job(job_id)
