"""A chunk as the core knows it."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.states import ChunkState


@dataclass(frozen=True, slots=True)
class ItemSpan:
    """One item of a recovery chunk: where its line stands in the input and what was tried."""

    index: int
    offset: int
    size_bytes: int
    attempts: int


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
    attempt: int
    worker_deaths: int
    lease_token: str | None


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
