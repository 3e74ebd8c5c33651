"""What outlooks are made of, and the outlooks themselves: one row for each pool, whatever the number of jobs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, and_, cast, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from app.db.repositories.deadlines import MAY_ESCALATE
from app.db.tables import chunks, jobs, pool_outlooks
from app.domain.jobs import Priority
from app.domain.outlook import PoolOutlook, Pulse
from app.domain.states import LIVE_CHUNK_STATES, RUNNABLE_JOB_STATES, ChunkState

_IS_LATER = and_(chunks.c.state == ChunkState.PENDING, chunks.c.not_before > func.now())
_IS_READY = and_(
    chunks.c.state == ChunkState.PENDING, or_(chunks.c.not_before.is_(None), chunks.c.not_before <= func.now())
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInView:
    """A job that may run, with the sums over its chunks that no worker has."""

    id: str
    tenant_id: str
    pool: str
    model: str | None
    model_version: str | None
    priority: Priority
    deadline_at: datetime
    created_at: datetime
    deadline_in_s: float
    may_escalate: bool
    n_ready: int
    ready_tokens: float
    ready_planned_s: float
    n_later: int
    later_tokens: float
    later_planned_s: float
    later_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkInView:
    """A chunk that a worker has, or that waits in its queue."""

    job_id: str
    queue: str
    is_running: bool
    tokens: int
    planned_s: float
    elapsed_s: float
    """Since it was claimed, be it ahead of its turn; zero where it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the worker of one queue has done of a job."""

    job_id: str
    queue: str
    tokens: float
    took_s: float
    """Seconds, those in which two chunks overlapped counted once: the next is begun while one is being finished."""
    since_last_s: float
    """Since the last of its chunks was done."""


class Outlooks:
    """Reads and writes, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def jobs_in_view(self) -> list[JobInView]:
        """Every job that may run and has something left."""
        query = (
            select(
                *(jobs.c.id, jobs.c.tenant_id, jobs.c.pool, jobs.c.model, jobs.c.model_version),
                *(jobs.c.priority, jobs.c.deadline_at, jobs.c.created_at),
                _seconds(jobs.c.deadline_at - func.now()).label("deadline_in_s"),
                and_(*MAY_ESCALATE).label("may_escalate"),
                *_sums("ready", _IS_READY),
                *_sums("later", _IS_LATER),
                func.coalesce(_seconds(func.min(chunks.c.not_before).filter(_IS_LATER) - func.now()), 0.0).label(
                    "later_in_s"
                ),
            )
            .join(chunks, chunks.c.job_id == jobs.c.id)
            .where(
                jobs.c.state.in_(RUNNABLE_JOB_STATES),
                jobs.c.stop_reason.is_(None),
                jobs.c.pool.is_not(None),
                chunks.c.state.in_(LIVE_CHUNK_STATES),
            )
            .group_by(jobs.c.id)
        )
        rows = self._connection.execute(query).mappings()
        return [JobInView(**{**row, "priority": Priority(row["priority"])}) for row in rows]

    def chunks_in_view(self) -> list[ChunkInView]:
        """Every chunk that is with a worker: a few for each of them; of a queue, what runs comes first."""
        is_running = chunks.c.state == ChunkState.RUNNING
        query = (
            select(
                chunks.c.job_id,
                chunks.c.queue,
                is_running.label("is_running"),
                chunks.c.estimated_tokens.label("tokens"),
                chunks.c.estimated_s.label("planned_s"),
                _seconds(func.now() - chunks.c.claimed_at).label("elapsed_s"),
            )
            .where(chunks.c.state.in_([ChunkState.GRANTED, ChunkState.RUNNING]))
            .order_by(is_running.desc(), chunks.c.granted_at)
        )
        rows = self._connection.execute(query).mappings()
        return [ChunkInView(**{**row, "elapsed_s": row["elapsed_s"] if row["is_running"] else 0.0}) for row in rows]

    def progress(self, job_ids: Collection[str]) -> list[Progress]:
        """What has been done of some jobs, by worker."""
        before = func.lag(chunks.c.finished_at).over(
            partition_by=(chunks.c.job_id, chunks.c.queue), order_by=chunks.c.finished_at
        )
        done = (
            select(
                *(chunks.c.job_id, chunks.c.queue, chunks.c.estimated_tokens, chunks.c.finished_at),
                _seconds(chunks.c.finished_at - func.greatest(chunks.c.claimed_at, before)).label("took_s"),
            )
            .where(chunks.c.job_id.in_(job_ids), chunks.c.state == ChunkState.DONE, chunks.c.claimed_at.is_not(None))
            .subquery()
        )
        query = select(
            *(done.c.job_id, done.c.queue),
            cast(func.sum(done.c.estimated_tokens), Float).label("tokens"),
            func.sum(done.c.took_s).label("took_s"),
            _seconds(func.now() - func.max(done.c.finished_at)).label("since_last_s"),
        ).group_by(done.c.job_id, done.c.queue)
        return [Progress(**row) for row in self._connection.execute(query).mappings()]

    def keep(self, outlooks: Sequence[PoolOutlook], *, forget_after_s: float) -> None:
        """Write the outlooks down as taken now; pools not heard of for ``forget_after_s`` are forgotten."""
        old = pool_outlooks.c.taken_at < func.now() - timedelta(seconds=forget_after_s)
        self._connection.execute(pool_outlooks.delete().where(old))
        for outlook in outlooks:
            values = {"taken_at": func.now(), "outlook": outlook.to_json()}
            statement = insert(pool_outlooks).values(pool=outlook.pool, **values)
            statement = statement.on_conflict_do_update(index_elements=["pool"], set_=values)
            self._connection.execute(statement)

    def ages(self) -> Mapping[str, tuple[datetime, float]]:
        """When the outlook of each pool was taken, and how many seconds ago that is."""
        query = select(pool_outlooks.c.pool, pool_outlooks.c.taken_at, _seconds(func.now() - pool_outlooks.c.taken_at))
        return {pool: (taken_at, age_s) for pool, taken_at, age_s in self._connection.execute(query)}

    def read(self, pools: Collection[str]) -> dict[str, PoolOutlook]:
        """The outlooks of some pools."""
        query = select(pool_outlooks.c.pool, pool_outlooks.c.outlook).where(pool_outlooks.c.pool.in_(pools))
        return {pool: PoolOutlook.from_json(pool, stored) for pool, stored in self._connection.execute(query)}

    def pulses(self, job_ids: Collection[str]) -> dict[str, Pulse]:
        """The live chunks of some jobs; those that have none are not named."""
        next_try_at = func.min(chunks.c.not_before).filter(_IS_LATER)
        query = (
            select(
                chunks.c.job_id,
                func.count().filter(chunks.c.state == ChunkState.RUNNING).label("n_running"),
                func.count().filter(chunks.c.state == ChunkState.GRANTED).label("n_granted"),
                func.count().filter(_IS_READY).label("n_ready"),
                func.count().filter(_IS_LATER).label("n_later"),
                next_try_at.label("next_try_at"),
                func.coalesce(_seconds(next_try_at - func.now()), 0.0).label("next_try_in_s"),
            )
            .where(chunks.c.job_id.in_(job_ids), chunks.c.state.in_(LIVE_CHUNK_STATES))
            .group_by(chunks.c.job_id)
        )
        rows = [dict(row) for row in self._connection.execute(query).mappings()]
        return {row.pop("job_id"): Pulse(**row) for row in rows}


def _sums(name: str, condition: ColumnElement[bool]) -> list[ColumnElement[Any]]:
    tokens = func.sum(chunks.c.estimated_tokens).filter(condition)
    return [
        func.count().filter(condition).label(f"n_{name}"),
        cast(func.coalesce(tokens, 0), Float).label(f"{name}_tokens"),
        func.coalesce(func.sum(chunks.c.estimated_s).filter(condition), 0.0).label(f"{name}_planned_s"),
    ]


def _seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", interval), Float)
