"""Counts the lines of a text while it streams by."""

from __future__ import annotations


class LineCounter:
    """Fed with a text piece by piece; blank lines at its end are no lines, as when a job reads it."""

    def __init__(self) -> None:
        self._n_ends = 0
        self.n_lines = 0
        """Lines up to the last one so far that is not blank."""

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        content = piece.rstrip()
        if content:
            self.n_lines = self._n_ends + content.count(b"\n") + 1
        self._n_ends += piece.count(b"\n")
