"""What the operators' metrics say about work, counted from the rows, which is right whichever process asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, and_, case, cast, func, select

from app.db.tables import chunks, dead_letters, jobs, result_parts, workers
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
class Distribution:
    """A histogram: how many were at most each bound, and the sum."""

    label: str
    at_most: tuple[int, ...]
    """Cumulative, one for each bound."""
    n: int
    sum_s: float


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

    def jobs_by_state(self) -> dict[str, int]:
        """Jobs in each state, the terminal ones included."""
        query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        return dict(tuple(row) for row in self._connection.execute(query))

    def items_by_outcome(self) -> dict[str, int]:
        """Items with an outcome, of all time."""
        query = select(result_parts.c.outcome, func.sum(result_parts.c.n_items)).group_by(result_parts.c.outcome)
        return {outcome: int(n) for outcome, n in self._connection.execute(query)}

    def failures_by_code(self) -> dict[str, int]:
        """Failed items by their code, of all time."""
        pair = func.jsonb_each_text(chunks.c.errors_by_code).table_valued("key", "value")
        query = (
            select(pair.c.key, func.sum(cast(pair.c.value, Float)))
            .select_from(chunks.join(pair, onclause=chunks.c.id.is_not(None)))
            .where(chunks.c.state == ChunkState.DONE, chunks.c.n_failed > 0)
            .group_by(pair.c.key)
        )
        return {code: int(n) for code, n in self._connection.execute(query)}

    def chunk_durations(self, bounds_s: Sequence[float]) -> list[Distribution]:
        """Seconds from claim to commit of finished chunks, by pool."""
        duration = func.extract("epoch", chunks.c.finished_at - chunks.c.claimed_at)
        query = (
            select(func.coalesce(jobs.c.pool, "unplanned").label("label"), *_histogram(duration, bounds_s))
            .select_from(chunks.join(jobs, jobs.c.id == chunks.c.job_id))
            .where(and_(chunks.c.state == ChunkState.DONE, chunks.c.claimed_at.is_not(None)))
            .group_by(jobs.c.pool)
        )
        return [_distribution(row) for row in self._connection.execute(query)]

    def waits(self, bounds_s: Sequence[float]) -> list[Distribution]:
        """Seconds from a job's acceptance to its first claimed chunk, by priority."""
        wait = func.extract("epoch", jobs.c.started_at - jobs.c.created_at)
        query = select(jobs.c.priority.label("label"), *_histogram(wait, bounds_s)).where(
            jobs.c.started_at.is_not(None)
        )
        return [_distribution(row) for row in self._connection.execute(query.group_by(jobs.c.priority))]

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


def _histogram(value: ColumnElement[Any], bounds: Sequence[float]) -> list[ColumnElement[Any]]:
    """Columns: one cumulative count for each bound, the count, the sum."""
    counts = [func.count(case((value <= bound, 1))) for bound in bounds]
    return [*counts, func.count(), cast(func.sum(value), Float)]


def _distribution(row: Sequence[Any]) -> Distribution:
    label, *at_most, n, sum_s = row
    return Distribution(label=label, at_most=tuple(at_most), n=n, sum_s=sum_s or 0.0)
