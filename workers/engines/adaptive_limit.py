"""How many requests to keep at a server that does not say how many it takes."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 4.0


@dataclass(slots=True)
class AdaptiveLimit:
    """Additive increase, multiplicative decrease: one more for each round of answers, half after an overload.

    Requests that were on their way together fail together: they count as one overload.
    """

    most: int
    _level: float = FIRST
    _round: int = 0

    def __post_init__(self) -> None:
        """Never begin above the most."""
        self._level = min(self._level, float(self.most))

    @property
    def now(self) -> int:
        """Requests that may be under way, at least one."""
        return max(1, int(self._level))

    @property
    def round(self) -> int:
        """Changes with each overload; a request remembers the round in which it was sent."""
        return self._round

    def answered(self) -> None:
        """A request was answered."""
        self._level = min(float(self.most), self._level + 1.0 / self._level)

    def overloaded(self, sent_in: int) -> None:
        """A request that was sent in round ``sent_in`` met a server that is too busy."""
        if sent_in == self._round:
            self._round += 1
            self._level = max(1.0, self._level / 2)
