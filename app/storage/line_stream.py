"""Lines that are made one by one, as a stream that an object store reads."""

from __future__ import annotations

from collections.abc import Iterator


class LineStream:
    """Lines as the byte stream an object store reads from."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._rest = b""
        self.n_lines = 0

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all that is left where it is negative."""
        wanted = size if size >= 0 else 1 << 62
        pieces, held = [self._rest], len(self._rest)
        while held < wanted and (line := next(self._lines, None)) is not None:
            self.n_lines += 1
            pieces.append(line)
            held += len(line)
        data = b"".join(pieces)
        self._rest = data[wanted:]
        return data[:wanted]
