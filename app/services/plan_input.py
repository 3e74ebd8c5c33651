"""One streaming pass over a job's input: every line checked, and cut into chunks as long as nothing is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from app.domain.chunking import ChunkPlanner, PlannedChunk, chunk_limits, estimate_tokens
from app.domain.chunks import NewChunk
from app.domain.input_lines import InputCheck
from app.domain.jobs import Job
from app.domain.jsonl import Line, read_lines
from app.ports import ObjectReader
from app.services.model_placement import max_input_tokens, pool_for, tokens_per_s, usable_model
from app.wiring import Wiring
from config.models import ModelSpec
from config.queues import pool_of

MOST_TRAILING_EMPTY_LINES = 100


@dataclass(frozen=True, slots=True)
class InputPlan:
    """What the pass found; ``chunks`` mean something only where ``check.problems`` is empty."""

    check: InputCheck
    model: ModelSpec | None
    pool: str
    chunks: list[NewChunk]


def plan_input(*, wiring: Wiring, job: Job, reader: ObjectReader, tick: Callable[[], None]) -> InputPlan:
    """Read the whole input once, in flat memory.

    Args:
        tick: called after every line; now and then it renews the planner's lease, and raises where that is lost.
    """
    settings = wiring.settings
    check = InputCheck(
        dialect=job.dialect,
        endpoint=job.endpoint,
        max_items=settings.max_job_items,
        max_line_bytes=settings.max_line_bytes,
        model=job.model,
        usable_models=frozenset(alias for alias, spec in wiring.models.items() if spec.serves(job.endpoint)),
    )
    cutter = _Cutter(wiring, job)
    for line in _without_trailing_empty(read_lines(reader, max_line_bytes=settings.max_line_bytes)):
        if check.check(line):
            cutter.add(line, check.model)
        if check.is_hopeless:
            break
        tick()
    check.finish()
    cutter.close()
    return InputPlan(check=check, model=cutter.model, pool=cutter.pool, chunks=cutter.chunks)


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


class _Cutter:
    """Cuts chunks; how large is decided at the first line, which may be the one that names the model."""

    def __init__(self, wiring: Wiring, job: Job) -> None:
        self._wiring = wiring
        self._job = job
        self._planner: ChunkPlanner | None = None
        self._tokens_per_s = 1.0
        self.model: ModelSpec | None = None
        self.pool = pool_for(None, wiring.settings.queues)
        self.chunks: list[NewChunk] = []

    def add(self, line: Line, model: str | None) -> None:
        if self._planner is None:
            self._planner = self._begin(model)
        elif self.model is None and model is not None:
            self._learn_model(model)
        tokens = estimate_tokens(line.size_bytes, max_input_tokens(self.model))
        self._keep(self._planner.add(offset=line.offset, size_bytes=line.size_bytes, tokens=tokens))

    def close(self) -> None:
        if self._planner is not None:
            self._keep(self._planner.close())

    def _begin(self, model: str | None) -> ChunkPlanner:
        settings = self._wiring.settings
        self._learn_model(model)
        with self._wiring.database.begin() as connection:
            self._tokens_per_s = tokens_per_s(connection, self.model, pool=self.pool)
        limits = chunk_limits(
            input_size_bytes=self._job.input_size_bytes,
            tokens_per_s=self._tokens_per_s,
            target_s=settings.chunk_target_s,
            n_workers=sum(1 for queue in settings.queues if pool_of(queue) == self.pool),
            max_items=settings.chunk_max_items,
        )
        return ChunkPlanner(limits)

    def _learn_model(self, model: str | None) -> None:
        self.model = usable_model(self._wiring.models, model, self._job.endpoint)
        self.pool = pool_for(self.model, self._wiring.settings.queues)

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
