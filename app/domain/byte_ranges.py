"""A long content made of several objects, and pieces of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Segment:
    """``length`` bytes of an object from ``start``."""

    object_key: str
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that lie in several objects, one behind the other."""

    segments: Sequence[Segment]

    @property
    def size_bytes(self) -> int:
        """Length of the whole."""
        return sum(segment.length for segment in self.segments)

    def cut(self, start: int, length: int) -> Content:
        """The piece of ``length`` bytes from ``start``."""
        return Content(tuple(_cut(self.segments, start, start + length)))


def _cut(segments: Sequence[Segment], start: int, end: int) -> Iterable[Segment]:
    offset = 0
    for segment in segments:
        first, last = max(start, offset), min(end, offset + segment.length)
        if first < last:
            yield Segment(segment.object_key, segment.start + first - offset, last - first)
        offset += segment.length
