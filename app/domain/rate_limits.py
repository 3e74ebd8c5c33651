"""Requests per minute, counted in a sliding window: this window's requests, and those of the one before as they fade.

Two counters a tenant, however high its limit, and no double burst where two windows meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

WINDOW_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class RateWindow:
    """What a tenant has used of its requests per minute."""

    limit: int
    previous: int
    """Requests of the window before; they count in the share in which it still reaches into the last minute."""
    previous_left_s: float
    """How long they still count, 60 down to 0."""
    current: int
    current_left_s: float
    """How long the present window's requests still count, 120 down to 60: it lasts a minute and fades for another."""

    @property
    def used(self) -> int:
        """Requests that count now."""
        return math.floor(self.previous * self.previous_left_s / WINDOW_S) + self.current

    @property
    def remaining(self) -> int:
        """Requests that would be taken now."""
        return max(0, self.limit - self.used)

    @property
    def full_after_s(self) -> float:
        """When the whole limit is there again, if nothing more is sent."""
        return self.current_left_s if self.current else self.previous_left_s if self.previous else 0.0

    @property
    def next_after_s(self) -> float:
        """When the next request will be taken, if nothing more is sent."""
        if self.remaining:
            return 0.0
        room = self.limit - self.current
        if room > 0:  # they are in the way until they count for less than the room
            return self.previous_left_s - WINDOW_S * room / self.previous
        begins_to_fade_s = max(0.0, self.current_left_s - WINDOW_S)
        return begins_to_fade_s + WINDOW_S * (1 - self.limit / self.current)

    @property
    def retry_after_s(self) -> int:
        """Whole seconds after which a request will be taken: behind ``next_after_s``, not at it."""
        return math.floor(self.next_after_s) + 1
