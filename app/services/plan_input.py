"""One streaming pass over a job's input: every line checked, and cut into chunks as long as nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from app.db.repositories.workers import Workers
from app.domain.chunking import ChunkPlanner, PlannedChunk, chunk_limits, estimate_tokens
from app.domain.chunks import NewChunk
from app.domain.input_lines import InputCheck, SeenIds, SeenInMemory
from app.domain.jobs import Dialect, Job
from app.domain.jsonl import Line, read_lines
from app.ports import ObjectReader
from app.services.model_placement import count_workers, max_input_tokens, pool_for, tokens_per_s, usable_model
from app.wiring import Wiring
from config.models import ModelSpec

MOST_TRAILING_EMPTY_LINES = 100


@dataclass(frozen=True, slots=True)
class InputPlan:
    """What the pass found; ``chunks`` mean something only where ``check.problems`` is empty."""

    check: InputCheck
    model: ModelSpec | None
    pool: str
    chunks: list[NewChunk]


class Plannable(Protocol):
    """What planning asks of a job, or of a group of jobs."""

    @property
    def dialect(self) -> Dialect:
        """The API it was made through."""

    @property
    def endpoint(self) -> str:
        """The route each line is for."""

    @property
    def model(self) -> str | None:
        """The model that lines are for which name none."""

    @property
    def input_size_bytes(self) -> int:
        """Length of the whole input."""


def plan_input(*, wiring: Wiring, job: Job, reader: ObjectReader, tick: Callable[[], None]) -> InputPlan:
    """Read the whole input once, in flat memory.

    Args:
        tick: called after every line; now and then it renews the planner's lease, and raises where that is lost.
    """
    check = input_check(wiring, job, max_items=_max_items(wiring, job.dialect))
    cutter = Cutter(wiring, job)
    for line in sound_lines(check, reader, tick=tick):
        cutter.add(line, check.model)
    check.finish()
    cutter.close()
    return InputPlan(check=check, model=cutter.model, pool=cutter.pool, chunks=cutter.chunks)


def _max_items(wiring: Wiring, dialect: Dialect) -> int:
    settings = wiring.settings
    return settings.max_message_batch_items if dialect is Dialect.ANTHROPIC else settings.max_job_items


def input_check(wiring: Wiring, source: Plannable, *, max_items: int, seen: SeenIds | None = None) -> InputCheck:
    """The check of an input's lines.

    Args:
        seen: what remembers each ``custom_id``; None for memory.
    """
    return InputCheck(
        dialect=source.dialect,
        endpoint=source.endpoint,
        max_items=max_items,
        max_line_bytes=wiring.settings.max_line_bytes,
        model=source.model,
        usable_models=frozenset(alias for alias, spec in wiring.models.items() if spec.serves(source.endpoint)),
        seen=SeenInMemory() if seen is None else seen,
    )


def sound_lines(check: InputCheck, reader: ObjectReader, *, tick: Callable[[], None]) -> Iterator[Line]:
    """Check line by line, and give those that may run; stops where reading on is pointless."""
    for line in _without_trailing_empty(read_lines(reader, max_line_bytes=check.max_line_bytes)):
        if check.check(line):
            yield line
        if check.is_hopeless:
            return
        tick()


def _without_trailing_empty(lines: Iterator[Line]) -> Iterator[Line]:
    """Empty lines at the very end of an input are no lines; anywhere else they are."""
    held: list[Line] = []
    for line in lines:
        is_empty = line.data is not None and not line.data.strip()
        if is_empty and len(held) < MOST_TRAILING_EMPTY_LINES:
            held.append(replace(line, data=b""))  # a megabyte of blanks says no more than none
            continue
        yield from held
        held.clear()
        yield line


class Cutter:
    """Cuts chunks; how large is decided at the first line, which may be the one that names the model."""

    def __init__(self, wiring: Wiring, source: Plannable, *, first_index: int = 0) -> None:
        """Cut what begins with the item ``first_index`` of the input."""
        self._wiring = wiring
        self._source = source
        self._first_index = first_index
        self._planner: ChunkPlanner | None = None
        self._tokens_per_s = 1.0
        self.model: ModelSpec | None = None
        self._n_workers = 1
        self.pool = ""
        self.chunks: list[NewChunk] = []

    def add(self, line: Line, model: str | None) -> None:
        """Take the next line; ``model`` is the one its input is known to be for by then."""
        if self._planner is None:
            self._planner = self._begin(model)
        elif self.model is None and model is not None:
            self._learn_model(model)
        tokens = estimate_tokens(line.size_bytes, max_input_tokens(self.model))
        self._keep(self._planner.add(offset=line.offset, size_bytes=line.size_bytes, tokens=tokens))

    def close(self) -> None:
        """Cut the last chunk."""
        if self._planner is not None:
            self._keep(self._planner.close())

    def _begin(self, model: str | None) -> ChunkPlanner:
        settings = self._wiring.settings
        self._learn_model(model)
        limits = chunk_limits(
            input_size_bytes=self._source.input_size_bytes,
            tokens_per_s=self._tokens_per_s,
            target_s=settings.chunk_target_s,
            n_workers=self._n_workers,
            max_items=settings.chunk_max_items,
        )
        return ChunkPlanner(limits, first_index=self._first_index)

    def _learn_model(self, model: str | None) -> None:
        """Choose the pool to cut for, and know how fast it is."""
        settings = self._wiring.settings
        self.model = usable_model(self._wiring.models, model, self._source.endpoint)
        with self._wiring.database.begin() as connection:
            workers = Workers(connection).live(silence_s=settings.worker_silence_s)
            self.pool = pool_for(connection, self.model, workers=workers, queues=settings.queues)
            self._tokens_per_s = tokens_per_s(connection, self.model, pool=self.pool)
        self._n_workers = count_workers(self.pool, workers=workers, queues=settings.queues)

    def _keep(self, planned: PlannedChunk | None) -> None:
        if planned is None:
            return
        new = NewChunk(
            byte_start=planned.byte_start,
            byte_end=planned.byte_end,
            first_index=planned.first_index,
            n_items=planned.n_items,
            estimated_tokens=planned.estimated_tokens,
            estimated_s=planned.estimated_tokens / self._tokens_per_s,
        )
        self.chunks.append(new)
