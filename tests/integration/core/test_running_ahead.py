"""A worker goes on with the next granted chunk of a job while it finishes the one before, and loses nothing by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from core_machine import QUEUE, CoreMachine
from seeded_work import SeededItem, expected_of, good

from app.domain.items import ItemOutcome
from app.domain.states import ChunkState
from app.ports import DeathNotes, ItemRunner, LastWords, RunRequest
from app.services.run_ahead import run_ahead
from app.services.run_chunk import Ran

PATIENCE_S = 10


@dataclass(slots=True)
class Watched:
    """An ``ItemRunner`` around another: ``act`` is called in each run with its number, once all its items are read."""

    runner: ItemRunner
    act: Callable[[int], None]
    n_runs: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        with self._lock:
            number, self.n_runs = self.n_runs, self.n_runs + 1
        outcomes = list(self.runner.run(request))
        self.act(number)
        yield from outcomes


def _items(name: str) -> list[SeededItem]:
    return [good(f"{name}-{number}") for number in range(12)]  # three chunks of four


def _run_ahead(
    core: CoreMachine,
    chunk_id: int,
    *,
    runner: ItemRunner | None = None,
    is_leaving: Callable[[], bool] = lambda: False,
    death_notes: DeathNotes | None = None,
) -> Ran:
    return run_ahead(
        wiring=core.wiring,
        runner=runner or core.runner,
        chunk_id=chunk_id,
        queue=QUEUE,
        holder="worker-1",
        is_leaving=is_leaving,
        death_notes=death_notes,
    )


def _states(core: CoreMachine, job_id: str) -> list[str]:
    return [chunk["state"] for chunk in core.chunks(job_id)]


def test_the_chunk_behind_is_run_and_its_message_finds_it_done(core: CoreMachine) -> None:
    items = _items("a")
    job_id = core.planned(items)
    first, second = core.granted(job_id)

    assert _run_ahead(core, first) is Ran.DONE
    assert _states(core, job_id) == [ChunkState.DONE, ChunkState.DONE, ChunkState.PENDING]
    assert core.run(second) is Ran.NOT_OURS
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))


def test_the_chunk_behind_is_begun_before_the_one_before_is_finished(core: CoreMachine) -> None:
    job_id = core.planned(_items("b"))
    first, _ = core.granted(job_id)
    second_ran = threading.Event()

    def wait_for_the_second(number: int) -> None:
        if number == 0:
            assert second_ran.wait(PATIENCE_S), "the second chunk waited for the first"
        else:
            second_ran.set()

    assert _run_ahead(core, first, runner=Watched(core.runner, wait_for_the_second)) is Ran.DONE
    assert _states(core, job_id)[:2] == [ChunkState.DONE, ChunkState.DONE]


def test_another_jobs_chunk_that_was_published_first_is_not_passed(core: CoreMachine) -> None:
    job_id, other_id = core.planned(_items("c")), core.planned(_items("d"))
    first, *_ = core.granted(job_id)
    publish = (
        "UPDATE chunks SET state = 'granted', queue = :queue, granted_at = now() WHERE job_id = :id AND ordinal = 0"
    )
    core.sql("UPDATE chunks SET state = 'pending' WHERE job_id = :id AND ordinal > 0", id=job_id)
    core.sql(publish, queue=QUEUE, id=other_id)
    core.sql(publish.replace("ordinal = 0", "ordinal = 1"), queue=QUEUE, id=job_id)

    assert _run_ahead(core, first) is Ran.DONE
    assert _states(core, other_id)[0] == ChunkState.GRANTED
    assert _states(core, job_id)[:2] == [ChunkState.DONE, ChunkState.GRANTED]


def test_a_worker_that_leaves_begins_nothing_more(core: CoreMachine) -> None:
    job_id = core.planned(_items("e"))
    first, second = core.granted(job_id)

    _run_ahead(core, first, is_leaving=lambda: True)

    assert core.chunk(second)["state"] == ChunkState.GRANTED


@pytest.mark.parametrize("suspected", [0, 1])
def test_a_chunk_on_which_a_worker_died_runs_alone(core: CoreMachine, suspected: int) -> None:
    job_id = core.planned(_items("h"))
    granted = core.granted(job_id)
    core.sql("UPDATE chunks SET worker_deaths = 1 WHERE id = :id", id=granted[suspected])

    assert _run_ahead(core, granted[0]) is Ran.DONE

    assert core.chunk(granted[1])["state"] == ChunkState.GRANTED


class FailingNotes:
    """``DeathNotes`` that a bug keeps from being read for one chunk."""

    def __init__(self, chunk_id: int) -> None:
        self._chunk_id = chunk_id
        self.has_failed = False

    def last_words(self, chunk_id: int) -> LastWords | None:
        if chunk_id == self._chunk_id:
            self.has_failed = True
            raise ZeroDivisionError
        return None

    def begin(self, chunk_id: int) -> None:
        """Keep nothing."""


def test_a_bug_met_in_the_last_chunk_run_ahead_is_reported(core: CoreMachine) -> None:
    first, second = core.granted(core.planned(_items("g")))

    notes = FailingNotes(second)
    with pytest.raises(ZeroDivisionError):
        _run_ahead(core, first, death_notes=notes, is_leaving=lambda: notes.has_failed)


def test_a_chunk_held_ahead_by_a_process_that_died_is_taken_over_by_its_message(core: CoreMachine) -> None:
    items = _items("f")
    job_id = core.planned(items)
    first, second = core.granted(job_id)
    core.sql(  # as the dead process left them: the first was being finished, the second was on the device
        "UPDATE chunks SET state = 'running', attempt = 1, lease_token = 'gone', lease_holder = 'worker-0',"
        " lease_until = now() + interval '1 minute' WHERE id = ANY(:ids)",
        ids=[first, second],
    )

    assert _run_ahead(core, first) is Ran.DONE
    assert core.run(second) is Ran.DONE
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
