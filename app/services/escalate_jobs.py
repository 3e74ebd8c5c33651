"""Make jobs urgent that would else miss the end of their completion window, where they asked for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from app.db.notify import notify
from app.db.repositories.deadlines import Deadlines
from app.db.repositories.events import Events
from app.db.repositories.jobs import Jobs
from app.db.session import Database
from app.domain.jobs import Priority

JOBS_AT_ONCE = 100


class Cause(StrEnum):
    """Why a job was made urgent."""

    WINDOW = "window"  # five sixths of its window have passed
    RATE = "rate"  # at the measured rate it would end after its window


def escalate_jobs(*, database: Database) -> int:
    """Make every job urgent whose window is five sixths over, by the database's clock; returns how many.

    It still expires at its deadline.
    """
    with database.begin() as connection:
        due = Deadlines(connection).due_for_escalation(JOBS_AT_ONCE)
    return escalate(database=database, job_ids=due, cause=Cause.WINDOW)


def escalate(*, database: Database, job_ids: Iterable[str], cause: Cause) -> int:
    """Make these jobs urgent, except those that need it no more; returns how many were changed."""
    return sum(_escalate_one(database, job_id, cause) for job_id in job_ids)


def _escalate_one(database: Database, job_id: str, cause: Cause) -> bool:
    with database.begin() as connection:
        before = Deadlines(connection).escalate(job_id)
        if before is None:
            return False
        job = Jobs(connection).get_any(job_id)
        told = {"reason": cause, "from": before, "to": Priority.URGENT}
        Events(connection).append(job.tenant_id, job.id, "escalated", data=told)
        notify(connection)
    return True
