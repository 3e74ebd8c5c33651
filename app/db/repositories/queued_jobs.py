"""The jobs whose chunks may be granted, as the dispatcher reads them: all of them once, then only what changed.

Every row of ``jobs`` and ``tenants`` carries the transaction that changed it last. What a look could not see yet is in
transactions that were under way or had not begun then: so the next look reads from the oldest of those on, and misses
nothing whatever the order of commits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, RowMapping, Text, and_, cast, func, select, update

from app.db.repositories.chunk_changes import change_remaining
from app.db.tables import chunks, jobs, tenants
from app.domain.jobs import Priority
from app.domain.states import LIVE_CHUNK_STATES, LIVE_JOB_STATES, RUNNABLE_JOB_STATES
from app.domain.tenant_places import QueuedJob

_MAY_RUN = and_(jobs.c.state.in_(RUNNABLE_JOB_STATES), jobs.c.stop_reason.is_(None))
_COLUMNS = (
    jobs.c.id,
    jobs.c.tenant_id,
    jobs.c.pool,
    jobs.c.model,
    jobs.c.model_version,
    jobs.c.priority,
    jobs.c.deadline_at,
    jobs.c.created_at,
    jobs.c.admitted_at,
    jobs.c.remaining_tokens,
)


@dataclass(frozen=True, slots=True)
class JobChanges:
    """What became of jobs since a horizon."""

    may_run: list[QueuedJob]
    may_not: Sequence[str]
    """Ids of jobs that changed and may not run as they are now."""


class QueuedJobs:
    """Reads jobs that may run, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def horizon(self) -> int:
        """Where the next look has to begin; ask before reading."""
        xmin = cast(cast(func.pg_snapshot_xmin(func.pg_current_snapshot()), Text), BigInteger)
        return self._connection.execute(select(xmin)).scalar_one()

    def all(self) -> list[QueuedJob]:
        """Every job that may run."""
        query = select(*_COLUMNS).where(_MAY_RUN)
        return [_queued_job(row) for row in self._connection.execute(query).mappings()]

    def changed_since(self, horizon: int) -> JobChanges:
        """Jobs that were made or changed since an earlier ``horizon``."""
        query = select(*_COLUMNS, _MAY_RUN.label("may_run")).where(jobs.c.changed_in >= horizon)
        rows = self._connection.execute(query).mappings().all()
        may_run = [_queued_job(row) for row in rows if row["may_run"]]
        return JobChanges(may_run, [row["id"] for row in rows if not row["may_run"]])

    def quotas_changed_since(self, horizon: int) -> bool:
        """Whether anything was set for a tenant since an earlier ``horizon``."""
        changed = select(tenants.c.id).where(tenants.c.changed_in >= horizon).limit(1)
        return self._connection.execute(changed).first() is not None

    def rehome(self, model: str, *, able_pools: Collection[str], home: str) -> int:
        """Count jobs of a model among those of ``home`` where their pool is none of ``able_pools``; returns how many.

        A job that is being changed right now keeps its pool until the next time.
        """
        free = (
            select(jobs.c.id)
            .where(jobs.c.model == model, jobs.c.state.in_(LIVE_JOB_STATES), jobs.c.pool.not_in(able_pools))
            .with_for_update(skip_locked=True)
        )
        return self._connection.execute(update(jobs).where(jobs.c.id.in_(free)).values(pool=home)).rowcount

    def recount(self) -> list[str]:
        """Set right what is left of jobs where it is not what their chunks say; gives their ids.

        The chunks are the truth and the sum on the job is a copy: a process of another release may have missed it.
        """
        live = (
            select(chunks.c.job_id, func.sum(chunks.c.estimated_tokens).label("tokens"))
            .where(chunks.c.state.in_(LIVE_CHUNK_STATES))
            .group_by(chunks.c.job_id)
            .subquery()
        )
        query = (
            select(jobs.c.id)
            .outerjoin(live, live.c.job_id == jobs.c.id)
            .where(jobs.c.state.in_(LIVE_JOB_STATES), jobs.c.remaining_tokens != func.coalesce(live.c.tokens, 0))
        )
        suspects = self._connection.execute(query).scalars().all()
        return [job_id for job_id in suspects if self._recount(job_id)]

    def _recount(self, job_id: str) -> bool:
        """Count again under the job's lock; a job that is being changed right now is left alone."""
        locked = select(jobs.c.remaining_tokens).where(jobs.c.id == job_id).with_for_update(skip_locked=True)
        kept = self._connection.execute(locked).scalar_one_or_none()
        counted = select(func.coalesce(func.sum(chunks.c.estimated_tokens), 0)).where(
            chunks.c.job_id == job_id, chunks.c.state.in_(LIVE_CHUNK_STATES)
        )
        tokens = int(self._connection.execute(counted).scalar_one())
        if kept is None or kept == tokens:
            return False
        change_remaining(self._connection, job_id, tokens - kept)
        return True


def _queued_job(row: RowMapping) -> QueuedJob:
    return QueuedJob(
        id=row["id"],
        tenant_id=row["tenant_id"],
        pools=(row["pool"],),
        model=row["model"],
        model_version=row["model_version"],
        priority=Priority(row["priority"]),
        deadline_at=row["deadline_at"],
        created_at=row["created_at"],
        is_admitted=row["admitted_at"] is not None,
        remaining_tokens=row["remaining_tokens"],
    )
