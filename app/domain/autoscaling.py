"""How many workers a pool should have for what waits there. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolScale:
    """What a pool has to do, and the workers that it has and should have."""

    pool: str
    backlog_s: float
    """Seconds that one worker would take for all that is left of the pool's jobs, at the measured rates."""
    n_live: int
    n_wanted: int


def wanted_workers(backlog_s: float, *, target_s: float, least: int, most: int) -> int:
    """The workers that get through a backlog within ``target_s``, but not fewer than ``least`` nor more than ``most``.

    Any backlog at all wants one, so that a pool that was scaled to none comes back.
    """
    return max(least, min(most, math.ceil(backlog_s / target_s)))
