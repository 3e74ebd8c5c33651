"""A chunk as the core knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from app.domain.chunking import estimate_tokens
from app.domain.states import ChunkState


@dataclass(frozen=True, slots=True)
class ItemSpan:
    """One item of a recovery chunk: where its line stands in the input and what was tried."""

    index: int
    offset: int
    size_bytes: int
    attempts: int
    """Of the item's whole life."""
    attempts_before: int = 0
    """Those of earlier runs of its job; ``max_attempts`` holds for the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """One row of ``chunks``."""

    id: int
    tenant_id: str
    job_id: str
    ordinal: int
    state: ChunkState
    byte_start: int
    byte_end: int
    first_index: int
    n_items: int
    spans: tuple[ItemSpan, ...] | None
    """Explicit items of a recovery chunk; None where the chunk is the whole byte range."""
    estimated_tokens: int
    estimated_s: float
    """Device seconds in the pool that it was cut for."""
    attempt: int
    worker_deaths: int
    death_cause: str | None
    """The item error code that the last death means; None where only the death is known."""
    lease_token: str | None
    queue: str | None = None
    """Where it was published last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChunk:
    """A chunk to be inserted."""

    byte_start: int
    byte_end: int
    first_index: int
    n_items: int
    estimated_tokens: int
    estimated_s: float
    spans: tuple[ItemSpan, ...] | None = None
    delay_s: float = 0.0
    worker_deaths: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOutcome:
    """What a finished chunk is closed with."""

    n_succeeded: int
    n_failed: int
    n_deferred: int
    """Left to a chunk behind this one: to be tried again, or because the run was stopped before their turn."""
    input_tokens: int
    output_tokens: int
    device_s: float
    errors_by_code: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPart:
    """A result part that was uploaded and waits for the commit that makes it visible."""

    outcome: str
    object_key: str
    size_bytes: int
    n_items: int
    sha256: str


def part_of(chunk: Chunk, spans: Iterable[ItemSpan], *, delay_s: float = 0.0, worker_deaths: int = 0) -> NewChunk:
    """Explicit items of ``chunk``, at least one, as a chunk of their own.

    Args:
        worker_deaths: what it starts with; a single item always starts anew, because it is convicted only of deaths on
            it alone.
    """
    ordered = tuple(sorted(spans, key=lambda span: span.offset))
    return NewChunk(
        byte_start=ordered[0].offset,
        byte_end=ordered[-1].offset + ordered[-1].size_bytes,
        first_index=ordered[0].index,
        n_items=len(ordered),
        estimated_tokens=sum(estimate_tokens(span.size_bytes, chunk.estimated_tokens) for span in ordered),
        estimated_s=chunk.estimated_s * len(ordered) / chunk.n_items,
        spans=ordered,
        delay_s=delay_s,
        worker_deaths=worker_deaths if len(ordered) > 1 else 0,
    )
