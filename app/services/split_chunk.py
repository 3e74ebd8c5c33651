"""Cuts a chunk on which workers died in two, to find the item that kills; alone, that item fails."""

from __future__ import annotations

from collections.abc import Collection

from app.domain.chunks import Chunk, NewChunk, part_of
from app.ports import ObjectStore
from app.services.chunk_input import chunk_spans


def split_chunk(
    *,
    storage: ObjectStore,
    input_key: str,
    chunk: Chunk,
    max_line_bytes: int,
    worker_deaths: int,
    suspects: Collection[int] = (),
) -> list[NewChunk]:
    """Two chunks of explicit items that together are ``chunk``: those under suspicion and the others, else its halves.

    Args:
        worker_deaths: what each starts with.
        suspects: indexes of the items that were on the device when it died.
    """
    spans = chunk_spans(storage=storage, input_key=input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    first = [span for span in spans if span.index in suspects]
    if len(first) in {0, len(spans)}:
        first = spans[: len(spans) // 2]
    chosen = {span.index for span in first}
    rest = [span for span in spans if span.index not in chosen]
    return [part_of(chunk, part, worker_deaths=worker_deaths) for part in (first, rest) if part]
