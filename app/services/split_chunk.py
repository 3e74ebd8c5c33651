"""Cuts a chunk on which workers died in two, to find the item that kills; alone, that item fails."""

from __future__ import annotations

from app.domain.chunking import estimate_tokens
from app.domain.chunks import Chunk, ItemSpan, NewChunk
from app.ports import ObjectStore
from app.services.chunk_input import read_chunk_lines


def halves(
    *, storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int, worker_deaths: int
) -> list[NewChunk]:
    """Two chunks of explicit items that together are ``chunk``.

    Args:
        worker_deaths: what a half starts with; a single item always starts anew, because it alone is to be convicted.
    """
    lines = read_chunk_lines(storage=storage, input_key=input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    spans = [span for span, _ in lines]
    middle = len(spans) // 2
    return [_half(chunk, tuple(part), worker_deaths) for part in (spans[:middle], spans[middle:]) if part]


def _half(chunk: Chunk, spans: tuple[ItemSpan, ...], worker_deaths: int) -> NewChunk:
    return NewChunk(
        byte_start=spans[0].offset,
        byte_end=spans[-1].offset + spans[-1].size_bytes,
        first_index=spans[0].index,
        n_items=len(spans),
        estimated_tokens=sum(estimate_tokens(span.size_bytes, chunk.estimated_tokens) for span in spans),
        estimated_s=chunk.estimated_s * len(spans) / chunk.n_items,
        spans=spans,
        worker_deaths=worker_deaths if len(spans) > 1 else 0,
    )
