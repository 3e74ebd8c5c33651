"""The dispatcher's view of chunks: what waits, what was published, what was left behind.

Every change here is level-triggered: it looks at rows and the database's clock, never at what was seen before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import ARRAY, Connection, Integer, Text, any_, cast, func, or_, select, true, update
from sqlalchemy.sql import ColumnElement

from app.db.repositories.chunk_changes import change_chunks
from app.db.repositories.chunks import Chunks
from app.db.tables import chunks, jobs, workers
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
class BusyChunk:
    """A chunk that is published or running."""

    id: int
    queue: str
    tenant_id: str


@dataclass(frozen=True, slots=True)
class Granted:
    """A chunk that was just granted, and what is known of its cost."""

    grant: Grant
    attempt: int
    """How often it was claimed before."""
    estimated_tokens: int
    planned_s: float
    """Device seconds as estimated when it was planned."""


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """What became of a chunk that was granted once."""

    id: int
    state: ChunkState
    attempt: int
    device_s: float


class Dispatching:
    """Grants chunks and takes them back, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def busy(self) -> list[BusyChunk]:
        """Every chunk that is with a worker: a few for each of them."""
        query = select(chunks.c.id, chunks.c.queue, chunks.c.tenant_id)
        query = query.where(chunks.c.state.in_([ChunkState.GRANTED, ChunkState.RUNNING]))
        return [BusyChunk(*row) for row in self._connection.execute(query)]

    def ends_of(self, chunk_ids: Collection[int]) -> list[ChunkEnd]:
        """What became of chunks."""
        query = select(chunks.c.id, chunks.c.state, chunks.c.attempt, chunks.c.device_s)
        rows = self._connection.execute(query.where(chunks.c.id.in_(chunk_ids)))
        return [ChunkEnd(row.id, ChunkState(row.state), row.attempt, row.device_s) for row in rows]

    def ready_among(self, job_ids: Collection[str]) -> Sequence[str]:
        """Those of some jobs that have a chunk which may run now."""
        one = select(chunks.c.id).where(chunks.c.job_id == jobs.c.id, *_IS_READY).limit(1).lateral()
        asked = cast(list(job_ids), ARRAY(Text))
        query = select(jobs.c.id).join(one, true()).where(jobs.c.id == any_(asked))
        return self._connection.execute(query).scalars().all()

    def admit(self, job_id: str) -> bool:
        """Give a job its place; False where it may not run any more, or has nothing ready.

        The dispatcher holds locks of chunks, so it never waits for one of a job: whoever holds that may wait for a
        chunk. A job whose row is locked right now is passed over.
        """
        ready = select(chunks.c.id).where(chunks.c.job_id == job_id, *_IS_READY)
        free = (
            select(jobs.c.id)
            .where(jobs.c.id == job_id, *_MAY_RUN, ready.exists())
            .with_for_update(of=jobs, skip_locked=True)
        )
        statement = update(jobs).where(jobs.c.id.in_(free)).values(admitted_at=func.now())
        return self._connection.execute(statement).rowcount == 1

    def grant_next(self, job_id: str, queue: str) -> Granted | None:
        """Mark a job's next chunk as published to a queue; None where none is ready."""
        query = (
            select(chunks.c.id)
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(chunks.c.job_id == job_id, *_MAY_RUN, *_IS_READY)
            .order_by(chunks.c.ordinal)
            .limit(1)
            .with_for_update(of=chunks, skip_locked=True)
        )
        chunk_id = self._connection.execute(query).scalar_one_or_none()
        if chunk_id is None:
            return None
        (row,) = change_chunks(
            self._connection,
            chunks.c.id == chunk_id,
            sources=(ChunkState.PENDING,),
            wanted=ChunkState.GRANTED,
            values={"queue": queue, "grants": chunks.c.grants + 1, "granted_at": func.now()},
        )
        grant = Grant(chunk_id, queue, row["grants"])
        return Granted(grant, row["attempt"], row["estimated_tokens"], row["estimated_s"])

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
        waiting = select(chunks.c.id).where(chunks.c.job_id == jobs.c.id, chunks.c.state.in_(WAITING_CHUNK_STATES))
        query = (
            select(jobs.c.id, jobs.c.stop_reason)
            .where(jobs.c.stop_reason.is_not(None), jobs.c.state.not_in(TERMINAL_JOB_STATES), waiting.exists())
            .with_for_update(of=jobs, skip_locked=True)
        )
        stopped = self._connection.execute(query).all()
        return sum(Chunks(self._connection).stop_waiting(job_id, STOPPED_CHUNK[reason]) for job_id, reason in stopped)

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
        there may be no chord. Only where nothing is left to run, as far as the job's row knows, are its chunks looked
        at; ``QueuedJobs.recount`` keeps that true.
        """
        of_job = chunks.c.job_id == jobs.c.id
        live = select(chunks.c.id).where(of_job, chunks.c.state.in_(LIVE_CHUNK_STATES))
        fresh = select(chunks.c.id).where(of_job, chunks.c.finished_at > func.now() - timedelta(seconds=patience_s))
        query = (
            select(jobs.c.id)
            .where(
                jobs.c.state.not_in(TERMINAL_JOB_STATES),
                jobs.c.queued_at.is_not(None),
                or_(jobs.c.remaining_tokens == 0, jobs.c.stop_reason.is_not(None)),
                ~live.exists(),
                or_(jobs.c.stop_reason.is_not(None), ~fresh.exists()),
            )
            .order_by(jobs.c.created_at)
            .limit(limit)
        )
        return self._connection.execute(query).scalars().all()

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


_MAY_RUN = (jobs.c.state.in_(RUNNABLE_JOB_STATES), jobs.c.stop_reason.is_(None))
_IS_READY = (
    chunks.c.state == ChunkState.PENDING,
    or_(chunks.c.not_before.is_(None), chunks.c.not_before <= func.now()),
)
