"""Content that is arriving: passed on up to a limit, its lines counted by the way."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from app.domain.line_count import LineCounter
from app.errors import RequestTooLarge

_BLOCK_BYTES = 1 << 20


class LimitedSource:
    """Passes a source on up to a limit, and counts its lines by the way."""

    def __init__(self, source: BinaryIO, limit: int, *, too_large: str, param: str) -> None:
        """Wrap ``source``.

        Args:
            too_large: what a client is told whose content is above ``limit`` bytes; ``param`` is the field it came in.
        """
        self._source = source
        self._limit = limit
        self._too_large = too_large
        self._param = param
        self._seen = 0
        self.lines = LineCounter()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, b"" at the end.

        Raises:
            RequestTooLarge: there are more than the limit.
        """
        data = self._source.read(size)
        self._seen += len(data)
        if self._seen > self._limit:
            raise RequestTooLarge(self._too_large, param=self._param)
        self.lines.feed(data)
        return data


def drained_sha256(content: BinaryIO) -> str:
    """Read what was stored before once more, for its digest only."""
    digest = hashlib.sha256()
    while block := content.read(_BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
