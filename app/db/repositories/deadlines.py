"""Completion windows: changing one, and who has to hurry. All by the database's clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Float, and_, cast, func, select
from sqlalchemy.sql import ColumnElement

from app.db.tables import jobs
from app.domain.jobs import OnDeadline, Priority
from app.domain.states import LIVE_JOB_STATES, JobState
from app.domain.windows import ESCALATE_AT


class Deadlines:
    """Reads and changes the windows of jobs, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def set_window(self, job_id: str, window: str, *, window_s: int) -> bool:
        """Give a job another window, which begins where its old one did; what its old one made urgent may be so again.

        Returns:
            False, and nothing is changed, where the new window has passed already.
        """
        deadline_at = BEGUN_AT + timedelta(seconds=window_s)
        statement = (
            jobs.update()
            .where(jobs.c.id == job_id, deadline_at > func.now())
            .values(completion_window=window, deadline_at=deadline_at, escalated_at=None)
        )
        return self._connection.execute(statement).rowcount == 1

    def has_passed(self, job_id: str) -> bool:
        """Whether a job's window is over."""
        query = select(jobs.c.deadline_at < func.now()).where(jobs.c.id == job_id)
        return self._connection.execute(query).scalar_one()

    def due_for_escalation(self, limit: int) -> Sequence[str]:
        """Jobs that are to become urgent because most of their window has passed, the most pressing first."""
        late = _seconds(func.now() - BEGUN_AT) >= _seconds(jobs.c.deadline_at - BEGUN_AT) * ESCALATE_AT
        query = select(jobs.c.id).where(*MAY_ESCALATE, late).order_by(jobs.c.deadline_at).limit(limit)
        return self._connection.execute(query).scalars().all()

    def escalate(self, job_id: str) -> Priority | None:
        """Make a job urgent, once for each window.

        Returns:
            The priority it had; None where it needs no escalation, or none any more.
        """
        query = select(jobs.c.priority).where(jobs.c.id == job_id, *MAY_ESCALATE).with_for_update()
        priority = self._connection.execute(query).scalar_one_or_none()
        if priority is None:
            return None
        urgent = jobs.update().where(jobs.c.id == job_id)
        self._connection.execute(urgent.values(priority=Priority.URGENT, escalated_at=func.now()))
        return Priority(priority)


BEGUN_AT = func.coalesce(jobs.c.window_from, jobs.c.created_at)
"""Where a window begins: with the creation of the job, or with its last retry."""

HAD_A_WINDOW = and_(jobs.c.state != JobState.CANCELLED, jobs.c.failure.is_(None))
"""Of an ended job: neither did its client cancel it, nor was its input refused."""
KEPT_ITS_WINDOW = and_(
    HAD_A_WINDOW,
    jobs.c.state.in_((JobState.SUCCEEDED, JobState.PARTIALLY_SUCCEEDED, JobState.FAILED)),
    jobs.c.finished_at <= jobs.c.deadline_at,
)
"""It ended before its deadline, with every item run."""
MAY_ESCALATE: tuple[ColumnElement[bool], ...] = (
    jobs.c.on_deadline == OnDeadline.ESCALATE,
    jobs.c.escalated_at.is_(None),
    jobs.c.priority != Priority.URGENT,
    jobs.c.finished_at.is_(None),
    jobs.c.stop_reason.is_(None),
    jobs.c.state.in_(LIVE_JOB_STATES - {JobState.FINALIZING, JobState.CANCELLING}),
)


def _seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", interval), Float)
