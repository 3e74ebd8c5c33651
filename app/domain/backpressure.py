"""When to come back to a full queue."""

from __future__ import annotations

LONGEST_WAIT_S = 120
"""Clients give up on longer waits."""
MOST_ENDED = 100
"""So many of the jobs that ended last tell how fast a queue drains."""
MEASURED_S = 600
"""What ended longer ago says nothing about now."""


def retry_after_s(*, n_ended: int, within_s: float) -> float:
    """The wait until the next job ends, at the rate of those that ended within the last ``within_s`` seconds.

    Returns:
        1 to 120 seconds; the longest where nothing has ended.
    """
    if not n_ended:
        return LONGEST_WAIT_S
    return min(max(within_s / n_ended, 1.0), LONGEST_WAIT_S)
