"""Durations of something that was measured several times."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds, one for each time."""

    seconds: list[float]

    @property
    def p50_s(self) -> float:
        return statistics.median(self.seconds)

    @property
    def p99_s(self) -> float:
        """The 99th of a hundred; of fewer measurements about the largest."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]

    @property
    def spread(self) -> str:
        """The smallest and the largest."""
        return f"{min(self.seconds):.3g} to {max(self.seconds):.3g}"
