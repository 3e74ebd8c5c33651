"""The dispatcher's view of chunks: what waits, what was published, what was left behind.

Every change here is level-triggered: it looks at rows and the database's clock, never at what was seen before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Integer, cast, func, or_, select, update
from sqlalchemy.sql import ColumnElement

from app.db.repositories.chunk_changes import change_chunks
from app.db.tables import chunks, jobs, workers
from app.domain.fairness import Candidate
from app.domain.jobs import Priority
from app.domain.states import (
    LIVE_CHUNK_STATES,
    RUNNABLE_JOB_STATES,
    STOPPED_CHUNK,
    TERMINAL_JOB_STATES,
    WAITING_CHUNK_STATES,
    ChunkState,
)
from app.ports import Grant


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """Chunks of one queue that are published or running."""

    n_granted: int
    n_running: int

    @property
    def n_busy(self) -> int:
        """Slots of its worker that are taken."""
        return self.n_granted + self.n_running


EMPTY_QUEUE = QueueLoad(0, 0)


class Dispatching:
    """Grants chunks and takes them back, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def candidates(self, pool: str) -> list[Candidate]:
        """Jobs of a pool with chunks that may run now."""
        query = (
            select(
                jobs.c.id,
                jobs.c.tenant_id,
                jobs.c.priority,
                jobs.c.deadline_at,
                jobs.c.created_at,
                func.count().label("n_ready"),
                func.avg(chunks.c.estimated_s).label("mean_chunk_s"),
            )
            .join(chunks, chunks.c.job_id == jobs.c.id)
            .where(jobs.c.pool == pool, *_may_run())
            .group_by(jobs.c.id)
        )
        return [
            Candidate(
                job_id=row.id,
                tenant_id=row.tenant_id,
                priority=Priority(row.priority),
                deadline_at=row.deadline_at,
                created_at=row.created_at,
                n_ready=row.n_ready,
                mean_chunk_s=row.mean_chunk_s,
            )
            for row in self._connection.execute(query)
        ]

    def loads(self) -> dict[str, QueueLoad]:
        """How full each queue is."""
        is_granted = chunks.c.state == ChunkState.GRANTED
        query = (
            select(chunks.c.queue, func.count().filter(is_granted), func.count().filter(~is_granted))
            .where(chunks.c.state.in_([ChunkState.GRANTED, ChunkState.RUNNING]))
            .group_by(chunks.c.queue)
        )
        return {queue: QueueLoad(granted, running) for queue, granted, running in self._connection.execute(query)}

    def unclaimed(self, *, patience_s: float) -> dict[str, int]:
        """Granted chunks of each queue in which one was not claimed within ``patience_s``."""
        is_overdue = chunks.c.granted_at < func.now() - timedelta(seconds=patience_s)
        query = (
            select(chunks.c.queue, func.count().label("n_granted"))
            .where(chunks.c.state == ChunkState.GRANTED)
            .group_by(chunks.c.queue)
            .having(func.bool_or(is_overdue))
        )
        return {row.queue: row.n_granted for row in self._connection.execute(query)}

    def grant(self, job_id: str, queues: Sequence[str]) -> list[Grant]:
        """Mark a job's next chunks as published, one for each queue named; fewer where fewer are ready."""
        query = (
            select(chunks.c.id)
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(jobs.c.id == job_id, *_may_run())
            .order_by(chunks.c.ordinal)
            .limit(len(queues))
            .with_for_update(of=chunks, skip_locked=True)
        )
        ready = self._connection.execute(query).scalars().all()
        return [self._grant(chunk_id, queue) for chunk_id, queue in zip(ready, queues, strict=False)]

    def take_back_expired(self, *, silence_s: float) -> int:
        """Return chunks whose lease ran out; each counts as a death unless its holder was heard within ``silence_s``.

        A holder that is heard of was only cut off, and its item is not to blame.
        """
        holder_lives = (
            select(workers.c.queue)
            .where(
                workers.c.incarnation == chunks.c.lease_holder,
                workers.c.seen_at > func.now() - timedelta(seconds=silence_s),
            )
            .exists()
        )
        died = {"worker_deaths": chunks.c.worker_deaths + cast(~holder_lives, Integer)}
        return self._take_back(chunks.c.lease_until < func.now(), source=ChunkState.RUNNING, values=died)

    def take_back_from_silent(self, live_queues: Sequence[str], *, patience_s: float) -> int:
        """Return chunks that were published to a queue whose worker is not heard of."""
        return self._take_back(
            chunks.c.queue.not_in(live_queues),
            chunks.c.granted_at < func.now() - timedelta(seconds=patience_s),
            source=ChunkState.GRANTED,
            values={},
        )

    def stop_waiting(self) -> int:
        """Close what waits of jobs that were stopped.

        The stop itself closed what waited then; since then a running chunk may have come back, or have left items to be
        tried again.
        """
        n_closed = 0
        for reason, state in STOPPED_CHUNK.items():
            closed = change_chunks(
                self._connection,
                chunks.c.job_id == jobs.c.id,
                jobs.c.stop_reason == reason,
                sources=WAITING_CHUNK_STATES,
                wanted=state,
                values={"finished_at": func.now()},
            )
            n_closed += len(closed)
        return n_closed

    def overdue_grants(self, queue: str, *, patience_s: float, at_most: int) -> list[tuple[str, Grant]]:
        """Publish again the oldest chunks of a queue that were not claimed in time; gives (job, grant) pairs."""
        query = (
            select(chunks.c.id, chunks.c.job_id)
            .where(
                chunks.c.queue == queue,
                chunks.c.state == ChunkState.GRANTED,
                chunks.c.granted_at < func.now() - timedelta(seconds=patience_s),
            )
            .order_by(chunks.c.granted_at)
            .limit(at_most)
            .with_for_update(skip_locked=True)
        )
        return [(row.job_id, self._grant_anew(row.id, queue)) for row in self._connection.execute(query).all()]

    def finishable(self, *, patience_s: float, limit: int) -> Sequence[str]:
        """Jobs that were planned, have no live chunk and are not terminal.

        A job whose last chunk ended within ``patience_s`` is left to its chord callback, unless it was stopped: then
        there may be no chord.
        """
        of_job = chunks.c.job_id == jobs.c.id
        live = select(chunks.c.id).where(of_job, chunks.c.state.in_(LIVE_CHUNK_STATES))
        fresh = select(chunks.c.id).where(of_job, chunks.c.finished_at > func.now() - timedelta(seconds=patience_s))
        query = (
            select(jobs.c.id)
            .where(
                jobs.c.state.not_in(TERMINAL_JOB_STATES),
                jobs.c.queued_at.is_not(None),
                ~live.exists(),
                or_(jobs.c.stop_reason.is_not(None), ~fresh.exists()),
            )
            .order_by(jobs.c.created_at)
            .limit(limit)
        )
        return self._connection.execute(query).scalars().all()

    def _grant(self, chunk_id: int, queue: str) -> Grant:
        (granted,) = change_chunks(
            self._connection,
            chunks.c.id == chunk_id,
            sources=(ChunkState.PENDING,),
            wanted=ChunkState.GRANTED,
            values={"queue": queue, "grants": chunks.c.grants + 1, "granted_at": func.now()},
        )
        return Grant(chunk_id, queue, granted["grants"])

    def _grant_anew(self, chunk_id: int, queue: str) -> Grant:
        statement = (
            update(chunks)
            .where(chunks.c.id == chunk_id)
            .values(grants=chunks.c.grants + 1, granted_at=func.now())
            .returning(chunks.c.grants)
        )
        return Grant(chunk_id, queue, self._connection.execute(statement).scalar_one())

    def _take_back(
        self, *conditions: ColumnElement[bool], source: ChunkState, values: dict[str, ColumnElement[int]]
    ) -> int:
        taken = change_chunks(
            self._connection,
            *conditions,
            sources=(source,),
            wanted=ChunkState.PENDING,
            values={"lease_token": None, "lease_until": None, **values},
        )
        return len(taken)


def _may_run() -> tuple[ColumnElement[bool], ...]:
    return (
        jobs.c.state.in_(RUNNABLE_JOB_STATES),
        jobs.c.stop_reason.is_(None),
        chunks.c.state == ChunkState.PENDING,
        or_(chunks.c.not_before.is_(None), chunks.c.not_before <= func.now()),
    )
