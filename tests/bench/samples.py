"""Something that was measured several times."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One value for each time; seconds, unless the owner says otherwise."""

    values: list[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.values)

    @property
    def p99(self) -> float:
        """The 99th of a hundred; of fewer measurements about the largest."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]

    @property
    def spread(self) -> str:
        """The smallest and the largest."""
        return f"{min(self.values):.3g} to {max(self.values):.3g}"

    def over(self, other: Sample) -> Sample:
        """This divided by the other, turn by turn: neighbours in time share the weather."""
        return Sample([ours / theirs for ours, theirs in zip(self.values, other.values, strict=True)])
