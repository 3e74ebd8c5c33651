"""What the operators' metrics say about work, counted from the rows, which is right whichever process asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, cast, func, select

from app.db.repositories.work_history import Distribution, distribution, histogram
from app.db.tables import chunks, dead_letters, jobs, workers
from app.domain.states import RUNNABLE_JOB_STATES, ChunkState, JobState


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueDepth:
    """What waits for one pool in one priority class."""

    pool: str
    priority: str
    n_chunks: int
    n_items: int
    oldest_age_s: float
    """Age of the oldest job with a waiting chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokensLeft:
    """What is left of a model's jobs in one pool."""

    pool: str
    model: str | None
    model_version: str | None
    tokens: int


class Measurements:
    """Counts over all tenants, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def queue_depths(self) -> list[QueueDepth]:
        """Chunks that no worker has taken yet."""
        waiting = chunks.c.state.in_((ChunkState.PENDING, ChunkState.GRANTED))
        query = (
            select(
                func.coalesce(jobs.c.pool, "unplanned").label("pool"),
                jobs.c.priority,
                func.count().label("n_chunks"),
                func.sum(chunks.c.n_items).label("n_items"),
                _age_s(func.min(jobs.c.created_at)).label("oldest_age_s"),
            )
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(waiting, jobs.c.state.in_(RUNNABLE_JOB_STATES))
            .group_by(jobs.c.pool, jobs.c.priority)
        )
        return [QueueDepth(**row) for row in self._connection.execute(query).mappings()]

    def tokens_left(self) -> list[TokensLeft]:
        """Estimated tokens of all chunks that have not ended, of jobs that may run."""
        place = (jobs.c.pool, jobs.c.model, jobs.c.model_version)
        query = (
            select(*place, func.sum(jobs.c.remaining_tokens).label("tokens"))
            .where(jobs.c.state.in_(RUNNABLE_JOB_STATES), jobs.c.stop_reason.is_(None), jobs.c.pool.is_not(None))
            .group_by(*place)
        )
        return [
            TokensLeft(**{**row, "tokens": int(row["tokens"])}) for row in self._connection.execute(query).mappings()
        ]

    def jobs_by_state(self) -> dict[str, int]:
        """Jobs in each state, the terminal ones included."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return dict(tuple(row) for row in self._connection.execute(query))

    def waits(self, bounds_s: Sequence[float]) -> list[Distribution]:
        """Seconds from a job's acceptance to its first claimed chunk, by priority."""
        wait = func.extract("epoch", jobs.c.started_at - jobs.c.created_at)
        query = select(jobs.c.priority.label("label"), *histogram(wait, bounds_s)).where(jobs.c.started_at.is_not(None))
        return [distribution(row) for row in self._connection.execute(query.group_by(jobs.c.priority))]

    def worker_ages(self) -> dict[str, float]:
        """Seconds since each worker was last heard, by its queue."""
        query = select(workers.c.queue, _age_s(workers.c.seen_at))
        return {queue: float(age) for queue, age in self._connection.execute(query)}

    def count_dead_letters(self) -> int:
        """Messages the broker gave up on, of all time."""
        return self._connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()

    def count_unprepared(self) -> int:
        """Jobs whose input is not yet checked."""
        query = select(func.count()).where(jobs.c.state == JobState.VALIDATING)
        return self._connection.execute(query).scalar_one()


def _age_s(moment: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", func.now() - moment), Float)
