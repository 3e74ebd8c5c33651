"""Cut token rows into device batches by a budget of tokens, rows of like length together.

Sorting keeps padding near nothing; the budget keeps a pass at the size that the device runs best, whatever
the lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """Rows that run together, longest first."""

    rows: Sequence[int]
    """Row numbers in the window."""
    positions: Sequence[int]
    """For each row the position of its item in the window."""
    token_ids: Sequence[Sequence[int]]

    @property
    def n_tokens(self) -> int:
        """Tokens the device computes, padding counted."""
        return len(self.rows) * len(self.token_ids[0])

    def halves(self) -> tuple[Self, Self] | None:
        """The longer and the shorter half of the rows."""
        if len(self.rows) < 2:
            return None
        middle = len(self.rows) // 2
        return self._part(slice(None, middle)), self._part(slice(middle, None))

    def _part(self, part: slice) -> Self:
        return type(self)(rows=self.rows[part], positions=self.positions[part], token_ids=self.token_ids[part])

    def padded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask, both int64 (n, t); padding is id 0 and masked out."""
        shape = (len(self.rows), len(self.token_ids[0]))
        ids = np.zeros(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(self.token_ids):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask


def cut_by_budget(
    token_ids: Sequence[Sequence[int]], positions: Sequence[int], *, tokens_per_pass: int
) -> list[TokenBatch]:
    """Cut all rows into batches with n * t <= ``tokens_per_pass``, longest rows first.

    Longest first, so that a device too small for the budget is found out at once.

    Args:
        token_ids: one row per input, none longer than ``tokens_per_pass``.
        positions: for each row the position of its item in the window.
    """
    order = sorted(range(len(token_ids)), key=lambda row: len(token_ids[row]), reverse=True)
    return [
        TokenBatch(rows=rows, positions=[positions[row] for row in rows], token_ids=[token_ids[row] for row in rows])
        for rows in _runs(order, token_ids, tokens_per_pass)
    ]


def _runs(order: Sequence[int], token_ids: Sequence[Sequence[int]], tokens_per_pass: int) -> Iterator[Sequence[int]]:
    start = 0
    while start < len(order):
        longest = len(token_ids[order[start]])
        end = start + max(1, tokens_per_pass // longest)
        yield order[start:end]
        start = end
