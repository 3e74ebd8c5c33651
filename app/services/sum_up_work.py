"""Sum up the chunks that ended since the last time, so that metrics stay cheap however long the history grows."""

from __future__ import annotations

from app.db.repositories.work_history import WorkHistory
from app.db.session import Database

MOST_STEPS = 400
"""Days of history summed up in one go; the next goes on."""


def sum_up_work(*, database: Database) -> int:
    """Sum up in steps, each a transaction of its own; returns how many. Two at once take turns."""
    for n_steps in range(1, MOST_STEPS + 1):
        with database.begin() as connection:
            if not WorkHistory(connection).sum_up():
                return n_steps
    return MOST_STEPS
