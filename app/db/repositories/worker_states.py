"""All workers that are known, with what they run and whether they are drained."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Float, RowMapping, Subquery, cast, func, select
from sqlalchemy.dialects.postgresql import distinct_on, insert

from app.db.tables import chunks, drains, workers
from app.domain.states import ChunkState
from app.domain.workers import RunningChunk, Worker, worker_state
from config.queues import pool_of


class WorkerStates:
    """Shows workers and drains their queues, inside one transaction."""

    def __init__(self, connection: Connection, *, silence_s: float) -> None:
        """Bind to a transaction.

        Args:
            silence_s: a worker that was not heard for this long is silent.
        """
        self._connection = connection
        self._silence_s = silence_s

    def list(self, *, queue: str | None = None) -> list[Worker]:
        """Every queue that has a worker or is drained, in the order of their names; one where it is named."""
        known = select(workers.c.queue).union(select(drains.c.queue)).subquery()
        running, waiting = _running(), _waiting()
        query = (
            select(
                known.c.queue,
                *workers.c["host", "incarnation", "warm_models", "unloadable_models", "started_at", "seen_at"],
                workers.c.stuck_since.is_not(None).label("is_stuck"),
                (workers.c.seen_at > func.now() - timedelta(seconds=self._silence_s)).label("is_heard"),
                _age_s(workers.c.started_at).label("age_s"),
                drains.c.created_at.label("drained_at"),
                *running.c["chunk_id", "job_id", "running_s"],
                func.coalesce(waiting.c.n_waiting, 0).label("n_waiting"),
            )
            .outerjoin(workers, workers.c.queue == known.c.queue)
            .outerjoin(drains, drains.c.queue == known.c.queue)
            .outerjoin(running, running.c.queue == known.c.queue)
            .outerjoin(waiting, waiting.c.queue == known.c.queue)
            .order_by(func.split_part(known.c.queue, ".", 1), func.length(known.c.queue), known.c.queue)
        )
        if queue is not None:
            query = query.where(known.c.queue == queue)
        return [_worker(row) for row in self._connection.execute(query).mappings()]

    def get(self, queue: str) -> Worker | None:
        """One of them, or None."""
        return next(iter(self.list(queue=queue)), None)

    def drain(self, queue: str) -> None:
        """Let its worker take no more chunks, whichever process it is, until ``undrain``."""
        self._connection.execute(insert(drains).values(queue=queue).on_conflict_do_nothing())

    def undrain(self, queue: str) -> None:
        """Let its worker take chunks again."""
        self._connection.execute(drains.delete().where(drains.c.queue == queue))


def _running() -> Subquery:
    """The chunk that each queue's worker claimed last and holds."""
    return (
        select(
            chunks.c.queue,
            chunks.c.id.label("chunk_id"),
            chunks.c.job_id,
            _age_s(chunks.c.claimed_at).label("running_s"),
        )
        .ext(distinct_on(chunks.c.queue))
        .where(chunks.c.state == ChunkState.RUNNING)
        .order_by(chunks.c.queue, chunks.c.claimed_at.desc())
        .subquery()
    )


def _waiting() -> Subquery:
    query = select(chunks.c.queue, func.count().label("n_waiting")).where(chunks.c.state == ChunkState.GRANTED)
    return query.group_by(chunks.c.queue).subquery()


def _age_s(moment: Any) -> Any:
    return cast(func.extract("epoch", func.now() - moment), Float)


def _worker(row: RowMapping) -> Worker:
    holds = row["chunk_id"] is not None
    return Worker(
        queue=row["queue"],
        pool=pool_of(row["queue"]),
        state=worker_state(
            is_drained=row["drained_at"] is not None,
            is_heard=bool(row["is_heard"]),
            is_stuck=bool(row["is_stuck"]),
            is_running=holds,
        ),
        host=row["host"],
        incarnation=row["incarnation"],
        started_at=row["started_at"],
        age_s=row["age_s"],
        seen_at=row["seen_at"],
        warm_models=tuple(row["warm_models"] or ()),
        unloadable_models=tuple(row["unloadable_models"] or ()),
        running=RunningChunk(row["chunk_id"], row["job_id"], row["running_s"]) if holds else None,
        n_waiting=row["n_waiting"],
        drained_at=row["drained_at"],
    )
