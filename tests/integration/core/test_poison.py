"""The item that kills, hangs or exhausts memory is found, fails alone and says why; its neighbours succeed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from core_machine import CoreMachine
from seeded_work import Expected, SeededItem, crashing, expected_of, good, hanging

from app.domain.items import ItemOutcome
from app.domain.states import JobState
from app.ports import LastWords, RunRequest


class WorkerDied(BaseException):
    """As SIGKILL."""


@dataclass(slots=True)
class Notes:
    """Death notes of one device."""

    words: dict[int, LastWords] = field(default_factory=dict)

    def last_words(self, chunk_id: int) -> LastWords | None:
        return self.words.pop(chunk_id, None)

    def begin(self, chunk_id: int) -> None:
        """Nothing to keep."""


class Poisoned:
    """The engine one item after the other, dying on some items and leaving a note."""

    def __init__(self, core: CoreMachine, notes: Notes, *, cause: str | None = None) -> None:
        self._core = core
        self._notes = notes
        self._cause = cause
        self.n_deaths = 0
        self.chunk_id = 0

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        for item in request.items:
            if {"crash", "hang"} & item.body.get("echo", {}).keys():
                self.n_deaths += 1
                self._notes.words[self.chunk_id] = LastWords(self._cause, frozenset({item.index}))
                raise WorkerDied
            yield from self._core.runner.run(replace(request, items=[item]))


def drive_mortally(core: CoreMachine, job_id: str, poisoned: Poisoned, notes: Notes) -> None:
    """Run a job to its end; a message whose worker died comes again, to the next process on that device."""
    incarnation = 0
    for _ in range(40):
        if core.job(job_id).finished_at:
            return
        core.waiting_is_over(job_id)
        for chunk_id in core.granted(job_id):
            for _ in range(10):
                incarnation += 1
                poisoned.chunk_id = chunk_id
                try:
                    core.run(chunk_id, holder=f"worker-{incarnation}", runner=poisoned, death_notes=notes)  # type: ignore[arg-type]
                except WorkerDied:
                    continue
                break
        core.finish(job_id)
    raise AssertionError(core.chunks(job_id))


@pytest.mark.parametrize(("item", "cause"), [(crashing("poison"), None), (hanging("poison"), "item_timeout")])
def test_a_poison_in_a_large_chunk_is_found_in_four_deaths(
    core: CoreMachine, item: SeededItem, cause: str | None
) -> None:
    items = [*(good(f"before-{n}") for n in range(40)), item, *(good(f"after-{n}") for n in range(40))]
    core = replace(core, wiring=replace(core.wiring, settings=replace(core.wiring.settings, chunk_max_items=100)))
    core.sql("DELETE FROM model_rates")  # what a busy machine was measured at would cut the job into several chunks
    job_id = core.planned(items)
    notes = Notes()
    poisoned = Poisoned(core, notes, cause=cause)
    drive_mortally(core, job_id, poisoned, notes)
    core.checker.check_job(job_id, expected_of(items))
    assert len(core.chunks(job_id)) == 3  # the whole, the suspect, the rest
    assert poisoned.n_deaths == 4


def test_a_note_of_every_item_or_of_none_narrows_nothing_and_the_chunk_is_halved(core: CoreMachine) -> None:
    job_id = core.planned([good(name) for name in "abcd"])
    (chunk_id,) = core.granted(job_id)
    core.sql("UPDATE chunks SET worker_deaths = 2 WHERE id = :id", id=chunk_id)
    notes = Notes({chunk_id: LastWords(None, frozenset(range(4)))})
    core.run(chunk_id, death_notes=notes)
    assert [chunk["n_items"] for chunk in core.chunks(job_id)] == [4, 2, 2]


def test_a_death_that_the_chunk_is_not_to_blame_for_is_not_counted(core: CoreMachine) -> None:
    job_id = core.planned([good(name) for name in "ab"])
    (chunk_id,) = core.granted(job_id)
    notes = Notes()

    class Killed:
        def run(self, _: RunRequest) -> Iterator[ItemOutcome]:
            notes.words[chunk_id] = LastWords(None, frozenset(), blames_the_chunk=False)
            raise WorkerDied

    for n in range(3):
        with pytest.raises(WorkerDied):
            core.run(chunk_id, holder=f"worker-{n}", runner=Killed(), death_notes=notes)  # type: ignore[arg-type]
    assert core.chunk(chunk_id)["worker_deaths"] == 0


def test_an_item_that_exhausts_memory_outside_the_device_says_so(core: CoreMachine) -> None:
    items = [
        good("a"),
        good("b"),
        SeededItem("big", {"model": "echo", "input": "x"}, Expected("failed", "out_of_memory")),
    ]
    job_id = core.planned(items)

    class Exhausted:
        def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
            given = list(request.items)
            if any(item.custom_id == "big" for item in given):
                raise MemoryError
            return core.runner.run(replace(request, items=given))

    assert replace(core, runner=Exhausted()).drive(job_id).state is JobState.PARTIALLY_SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))


def test_an_item_that_takes_too_long_is_tried_again_and_fails_as_that(core: CoreMachine) -> None:
    slow = replace(good("slow", delay_s=30), expected=Expected("failed", "item_timeout"))
    items = [good("a"), slow, good("b")]
    job_id = core.planned(items, item_timeout_s=0.1, max_attempts=2)
    core.drive(job_id)
    core.checker.check_job(job_id, expected_of(items))
    assert core.checker.results(job_id)["slow"].attempts == 2
