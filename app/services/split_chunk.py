"""Cuts a chunk on which workers died in two, to find the item that kills; alone, that item fails."""

from __future__ import annotations

from app.domain.chunks import Chunk, NewChunk, part_of
from app.ports import ObjectStore
from app.services.chunk_input import chunk_spans


def halves(
    *, storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int, worker_deaths: int
) -> list[NewChunk]:
    """Two chunks of explicit items that together are ``chunk``.

    Args:
        worker_deaths: what a half starts with.
    """
    spans = chunk_spans(storage=storage, input_key=input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    middle = len(spans) // 2
    return [part_of(chunk, part, worker_deaths=worker_deaths) for part in (spans[:middle], spans[middle:]) if part]
