"""What of a job is to run again, and in which chunks.

The outcomes of a retry take the place of those it was made for. What is replaced is told by outcome, never by item: a
chunk counts its outcomes apart, and a result part holds one outcome only. So a retry takes over the failed items of
finished chunks, and whole chunks that were stopped; everything else stands untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from app.domain.chunks import Chunk, ItemSpan, NewChunk, part_of

RETRIED_OUTCOMES = ("failed", "expired", "cancelled")
"""Outcomes that an item may be retried from; the order in which they are told."""


def stopped_again(chunk: Chunk) -> NewChunk:
    """A chunk that was stopped, to be run with the whole budget of attempts."""
    spans = chunk.spans
    return NewChunk(
        byte_start=chunk.byte_start,
        byte_end=chunk.byte_end,
        first_index=chunk.first_index,
        n_items=chunk.n_items,
        estimated_tokens=chunk.estimated_tokens,
        estimated_s=chunk.estimated_s,
        spans=None if spans is None else tuple(_begun_anew(span, span.attempts) for span in spans),
    )


def failed_again(chunk: Chunk, spans: Iterable[ItemSpan], attempts: Mapping[int, int]) -> NewChunk:
    """The items of a finished chunk that failed.

    Args:
        spans: of all its items.
        attempts: index of each item that failed -> how often it was tried in its life.
    """
    return part_of(chunk, [_begun_anew(span, attempts[span.index]) for span in spans if span.index in attempts])


def joined(pieces: Sequence[NewChunk], *, chunk_s: float, max_items: int) -> list[NewChunk]:
    """Put chunks of explicit items together until each is full, so that a few failures of each chunk make few chunks.

    Args:
        pieces: in the order of the input.
        chunk_s: estimated seconds at which a chunk is full.
    """
    chunks: list[NewChunk] = []
    group: list[NewChunk] = []
    for piece in pieces:
        if group and not _fit([*group, piece], chunk_s=chunk_s, max_items=max_items):
            chunks.append(_one_of(group))
            group = []
        group.append(piece)
    return [*chunks, _one_of(group)] if group else chunks


def _begun_anew(span: ItemSpan, attempts: int) -> ItemSpan:
    return replace(span, attempts=attempts, attempts_before=attempts)


def _fit(group: Sequence[NewChunk], *, chunk_s: float, max_items: int) -> bool:
    n_items = sum(piece.n_items for piece in group)
    return n_items <= max_items and sum(piece.estimated_s for piece in group) <= chunk_s


def _one_of(group: Sequence[NewChunk]) -> NewChunk:
    if len(group) == 1:
        return group[0]
    spans = tuple(sorted((span for piece in group for span in piece.spans or ()), key=lambda span: span.offset))
    return NewChunk(
        byte_start=spans[0].offset,
        byte_end=spans[-1].offset + spans[-1].size_bytes,
        first_index=spans[0].index,
        n_items=len(spans),
        estimated_tokens=sum(piece.estimated_tokens for piece in group),
        estimated_s=sum(piece.estimated_s for piece in group),
        spans=spans,
    )
