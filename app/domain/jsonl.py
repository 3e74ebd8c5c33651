"""Lines of a JSONL stream, by byte offsets, in flat memory.

Used by the planner (whole input) and by workers (a byte range of it). Line numbers count from 1. A byte-order mark
at the start of the input and a carriage return before a line end are tolerated; empty lines are given as they are,
and what they mean is decided by the caller. A carriage return with no line end behind it belongs to its line: so a
range that ends with a line gives that line as the whole input gave it, be it right at the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


class ByteSource(Protocol):
    """Anything that gives bytes, b"" at its end."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes."""
        ...


@dataclass(slots=True)
class Line:
    """One line without its line end."""

    number: int
    offset: int
    """Where it begins, in bytes from the start of the input."""
    data: bytes | None
    """None where the line is longer than the limit; its bytes were skipped, not kept."""
    size_bytes: int
    """Length of the line without its line end."""


def read_lines(source: ByteSource, *, max_line_bytes: int, start: int = 0, first_number: int = 1) -> Iterator[Line]:
    """Split a stream into lines, never holding more than one block and one line.

    Args:
        source: positioned at ``start``.
        start: the offset of its first byte in the input.
        first_number: the number of its first line.
    """
    offset, number, skipped, rest = start, first_number, 0, b""
    while block := source.read(BLOCK_BYTES):
        pieces = (rest + block).split(b"\n") if rest else block.split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            yield _line(number, offset, piece.removesuffix(b"\r"), skipped, max_line_bytes)
            offset += skipped + len(piece) + 1
            number, skipped = number + 1, 0
        if len(rest) > max_line_bytes + len(_BOM) + 1:
            skipped, rest = skipped + len(rest), b""
    if rest or skipped:
        yield _line(number, offset, rest, skipped, max_line_bytes)


def _line(number: int, offset: int, piece: bytes, skipped: int, limit: int) -> Line:
    """Make a Line of its last bytes, ``skipped`` bytes before which were thrown away."""
    if offset == 0 and not skipped and piece.startswith(_BOM):
        piece = piece[len(_BOM) :]
        offset += len(_BOM)
    size_bytes = skipped + len(piece)
    return Line(number, offset, None if size_bytes > limit else piece, size_bytes)
