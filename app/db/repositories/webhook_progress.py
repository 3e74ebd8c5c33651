"""Which running jobs are to be told of by ``job.progress``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, and_, any_, exists, func, literal, or_, select

from app.db.tables import chunks, jobs, webhook_deliveries, webhook_endpoints
from app.domain.states import ChunkState, JobState
from app.domain.webhooks import PROGRESS

_ONE_AT_A_TIME = 0x70726F67  # "prog"


class WebhookProgress:
    """Finds them, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_mine(self) -> bool:
        """Whether no other process is about it, until the end of this transaction."""
        return bool(self._connection.execute(select(func.pg_try_advisory_xact_lock(_ONE_AT_A_TIME))).scalar_one())

    def untold(self, *, every_s: float, limit: int) -> Sequence[str]:
        """Running jobs that somebody wants to hear of, with a chunk that ended since they were told of last."""
        told = webhook_deliveries.alias("told")
        told_of_job = and_(told.c.job_id == jobs.c.id, told.c.event_type == PROGRESS)
        too_soon = told.c.created_at > func.now() - timedelta(seconds=every_s)
        last_told_at = select(func.max(told.c.created_at)).where(told_of_job).correlate(jobs).scalar_subquery()
        wanted_by_endpoint = exists().where(
            webhook_endpoints.c.tenant_id == jobs.c.tenant_id,
            webhook_endpoints.c.deleted_at.is_(None),
            literal(PROGRESS) == any_(webhook_endpoints.c.event_types),
        )
        has_come_further = exists().where(
            chunks.c.job_id == jobs.c.id,
            chunks.c.state == ChunkState.DONE,
            chunks.c.finished_at > func.coalesce(last_told_at, jobs.c.created_at),
        )
        query = (
            select(jobs.c.id)
            .where(
                jobs.c.state == JobState.RUNNING,
                or_(jobs.c.webhook["events"].contains([PROGRESS]), wanted_by_endpoint),
                ~exists().where(told_of_job, too_soon),
                has_come_further,
            )
            .limit(limit)
        )
        return self._connection.execute(query).scalars().all()
