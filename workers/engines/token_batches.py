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
    second_from: Sequence[int] | None = None
    """For each row where its second text begins; None where rows hold one text."""

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
        second_from = None if self.second_from is None else self.second_from[part]
        return type(self)(self.rows[part], self.positions[part], self.token_ids[part], second_from)

    def padded(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask, both int64 (n, t); padding is id 0 and masked out."""
        shape = (len(self.rows), len(self.token_ids[0]))
        ids = np.zeros(shape, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(self.token_ids):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        return ids, mask

    def segments(self) -> NDArray[np.int64]:
        """Int64 (n, t): 1 where a row's second text stands, else 0."""
        segments = np.zeros((len(self.rows), len(self.token_ids[0])), dtype=np.int64)
        for number, (row, begin) in enumerate(zip(self.token_ids, self.second_from or (), strict=False)):
            segments[number, begin : len(row)] = 1
        return segments


def cut_by_budget(
    token_ids: Sequence[Sequence[int]],
    positions: Sequence[int],
    *,
    tokens_per_pass: int,
    second_from: Sequence[int] | None = None,
) -> list[TokenBatch]:
    """Cut all rows into batches with n * t <= ``tokens_per_pass``, longest rows first.

    Longest first, so that a device too small for the budget is found out at once.

    Args:
        token_ids: one row per input, none longer than ``tokens_per_pass``.
        positions: for each row the position of its item in the window.
        second_from: for each row where its second text begins; None where rows hold one text.
    """
    runs = runs_by_budget([len(row) for row in token_ids], budget=tokens_per_pass)
    return [
        TokenBatch(
            rows=rows,
            positions=[positions[row] for row in rows],
            token_ids=[token_ids[row] for row in rows],
            second_from=None if second_from is None else [second_from[row] for row in rows],
        )
        for rows in runs
    ]


def runs_by_budget(sizes: Sequence[int], *, budget: int, most_rows: int | None = None) -> Iterator[Sequence[int]]:
    """Put rows of like size together: row numbers, largest first, with n * the largest size <= ``budget``.

    A row above the budget stands alone.
    """
    order = sorted(range(len(sizes)), key=lambda row: sizes[row], reverse=True)
    start = 0
    while start < len(order):
        n_rows = max(1, budget // sizes[order[start]])
        end = start + (n_rows if most_rows is None else min(n_rows, most_rows))
        yield order[start:end]
        start = end
