"""Cuts a stream of items into chunks of about equal estimated work."""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_TOKEN = 4
"""English text under a WordPiece vocabulary; only used to guess before anything is measured."""
TOKENS_PER_ITEM = 2
"""Special tokens, and a floor under what an item costs."""
SHARED_ITEMS = 100
"""So many are shared among the workers whatever is known of their speed: the rate of a model is that of other items,
and some take a thousand times longer."""


@dataclass(frozen=True, slots=True)
class PlannedChunk:
    """A run of neighbouring lines: bytes ``byte_start`` to ``byte_end`` (exclusive) of the input."""

    ordinal: int
    byte_start: int
    byte_end: int
    first_index: int
    n_items: int
    estimated_tokens: int


@dataclass(frozen=True, slots=True)
class ChunkLimits:
    """When a chunk is full: at its share of work or of items, whichever comes first."""

    tokens: int
    items: int
    least_tokens: int = 1
    """Below which shrinking stops."""
    total_tokens: float = 0.0
    """Of the whole input, roughly; the last chunks shrink with what is left, so that all workers end together."""
    n_workers: int = 0
    """Who share the work; 0: chunks do not shrink."""
    least_items: int = SHARED_ITEMS
    """With as many, a chunk takes no more than one worker's part, however little work it is thought to be."""

    def is_a_part(self, chunk: PlannedChunk) -> bool:
        """Whether this is as much as one of the workers should take of an input that all of them can share."""
        if self.n_workers < 2 or chunk.n_items < self.least_items:
            return False
        size_bytes = chunk.byte_end - chunk.byte_start
        return size_bytes >= self.total_tokens * BYTES_PER_TOKEN / self.n_workers

    def tokens_after(self, planned_tokens: int) -> float:
        """The share of work of a chunk behind ``planned_tokens`` of other chunks."""
        if not self.n_workers:
            return self.tokens
        left = self.total_tokens - planned_tokens
        return min(self.tokens, max(self.least_tokens, left / self.n_workers / 2))


def estimate_tokens(size_bytes: int, max_input_tokens: int) -> int:
    """Guess what a line of this size costs, in tokens."""
    return min(size_bytes // BYTES_PER_TOKEN, max_input_tokens) + TOKENS_PER_ITEM


def chunk_share_s(total_s: float, *, target_s: float, n_workers: int) -> float:
    """How many estimated seconds of ``total_s`` a chunk takes.

    A lot of work gets chunks of ``target_s``. Less is cut so that every worker gets about two, but not below a tenth of
    the target, under which orchestration would show.
    """
    return min(target_s, max(total_s / max(1, n_workers) / 2, target_s / 10))


def chunk_limits(
    *, input_size_bytes: int, tokens_per_s: float, target_s: float, n_workers: int, max_items: int
) -> ChunkLimits:
    """Choose the size of a job's chunks."""
    total_tokens = input_size_bytes / BYTES_PER_TOKEN
    chunk_s = chunk_share_s(total_tokens / tokens_per_s, target_s=target_s, n_workers=n_workers)
    return ChunkLimits(
        tokens=max(1, int(chunk_s * tokens_per_s)),
        items=max_items,
        least_tokens=max(1, int(target_s / 10 * tokens_per_s)),
        total_tokens=total_tokens,
        n_workers=max(1, n_workers),
    )


class ChunkPlanner:
    """Collects items in input order and closes a chunk whenever it is full."""

    def __init__(self, limits: ChunkLimits, *, first_index: int = 0) -> None:
        self._limits = limits
        self._ordinal = 0
        self._next_index = first_index
        self._open: PlannedChunk | None = None
        self._planned_tokens = 0

    def add(self, *, offset: int, size_bytes: int, tokens: int) -> PlannedChunk | None:
        """Take the next item; returns the chunk before it where that one is now closed."""
        closed = self.close() if self._is_full(tokens) else None
        current = self._open or PlannedChunk(self._ordinal, offset, offset, self._next_index, 0, 0)
        self._open = PlannedChunk(
            ordinal=current.ordinal,
            byte_start=current.byte_start,
            byte_end=offset + size_bytes,
            first_index=current.first_index,
            n_items=current.n_items + 1,
            estimated_tokens=current.estimated_tokens + tokens,
        )
        self._next_index += 1
        return closed

    def close(self) -> PlannedChunk | None:
        """The chunk that is still open, if there is one; the next item begins another."""
        closed, self._open = self._open, None
        if closed is not None:
            self._ordinal += 1
            self._planned_tokens += closed.estimated_tokens
        return closed

    def _is_full(self, tokens: int) -> bool:
        current = self._open
        return current is not None and (
            current.n_items >= self._limits.items
            or current.estimated_tokens + tokens > self._limits.tokens_after(self._planned_tokens)
            or self._limits.is_a_part(current)
        )
