"""Chunks: planning, claiming under a lease, and closing them.

Every write of a worker is guarded by its lease token, and every lease is counted on the database's clock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Integer, RowMapping, and_, case, cast, func, or_, select
from sqlalchemy.sql import ColumnElement

from app.db.repositories.chunk_changes import change_chunks, change_remaining
from app.db.tables import chunks, drains, jobs
from app.domain.chunks import Chunk, ChunkOutcome, ItemSpan, NewChunk
from app.domain.states import (
    LIVE_CHUNK_STATES,
    STOPPED_CHUNK,
    TERMINAL_CHUNK_STATES,
    WAITING_CHUNK_STATES,
    ChunkState,
    JobState,
)
from app.errors import LeaseLost
from app.ports import LastWords

_FIELDS = [chunks.c["items" if spec.name == "spans" else spec.name] for spec in dataclasses.fields(Chunk)]
_INSERT_ROWS = 500


class Chunks:
    """Reads and changes chunks inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(
        self, tenant_id: str, job_id: str, new: Sequence[NewChunk], *, state: ChunkState = ChunkState.PENDING
    ) -> None:
        """Add chunks behind those the job has; the caller holds the job's row lock."""
        last = select(func.coalesce(func.max(chunks.c.ordinal), -1)).where(chunks.c.job_id == job_id)
        query = select(last.scalar_subquery(), jobs.c.attempt_runs).where(jobs.c.id == job_id)
        last_ordinal, run = self._connection.execute(query).one()
        finished_at = func.now() if state in TERMINAL_CHUNK_STATES else None
        shared = {"tenant_id": tenant_id, "job_id": job_id, "run": run, "state": state, "finished_at": finished_at}
        rows = [{**shared, **_new_row(last_ordinal + place, chunk)} for place, chunk in enumerate(new, start=1)]
        for start in range(0, len(rows), _INSERT_ROWS):
            self._connection.execute(chunks.insert().values(rows[start : start + _INSERT_ROWS]))
        if state in LIVE_CHUNK_STATES:
            change_remaining(self._connection, job_id, sum(chunk.estimated_tokens for chunk in new))

    def get(self, chunk_id: int) -> Chunk | None:
        """One chunk, or None."""
        row = self._connection.execute(select(*_FIELDS).where(chunks.c.id == chunk_id)).mappings().one_or_none()
        return None if row is None else _chunk(row)

    def stopped_in_run(self, job_id: str, run: int) -> list[Chunk]:
        """A job's chunks of one run whose items did not run because it was stopped, in their order."""
        query = select(*_FIELDS).where(
            chunks.c.job_id == job_id, chunks.c.run == run, chunks.c.state.in_(STOPPED_CHUNK.values())
        )
        return [_chunk(row) for row in self._connection.execute(query.order_by(chunks.c.ordinal)).mappings()]

    def retried_in(self, job_id: str, run: int) -> list[Chunk]:
        """A job's chunks of which a run takes over what did not succeed, in their order."""
        query = select(*_FIELDS).where(chunks.c.job_id == job_id, chunks.c.retried_in == run)
        return [_chunk(row) for row in self._connection.execute(query.order_by(chunks.c.ordinal)).mappings()]

    def count_live(self, job_id: str) -> int:
        """Chunks of a job that are not terminal."""
        query = select(func.count()).where(chunks.c.job_id == job_id, chunks.c.state.in_(LIVE_CHUNK_STATES))
        return self._connection.execute(query).scalar_one()

    def claim(
        self,
        chunk_id: int,
        *,
        queue: str,
        holder: str,
        token: str,
        lease_s: float,
        last_words: LastWords | None = None,
    ) -> Chunk | None:
        """Take a chunk that was granted, or whose holder is gone; the attempt is counted.

        A holder is gone when its lease ran out, or when it served the very queue we serve: a queue has one worker,
        so a redelivery to it means that the former worker, or its child, is no more. Should it still be alive
        somewhere, its token is stale from now on.

        A chunk that was taken back and granted to another queue is not ours, nor is anything once our queue is
        drained: a message that was sent before may still arrive.

        Args:
            last_words: what is known of the end of the process that had it before, where that was on this very device.
        Returns:
            The chunk under its new lease, or None where there is nothing to do.
        """
        abandoned = and_(
            chunks.c.state == ChunkState.RUNNING,
            or_(chunks.c.lease_until < func.now(), and_(chunks.c.queue == queue, chunks.c.lease_holder != holder)),
        )
        was_running = chunks.c.state == ChunkState.RUNNING
        unheard_of = case((was_running, None), else_=chunks.c.death_cause)
        cause = last_words.cause if last_words else unheard_of
        counts_as_death = last_words is None or last_words.blames_the_chunk
        claimed = change_chunks(
            self._connection,
            chunks.c.id == chunk_id,
            or_(and_(chunks.c.state == ChunkState.GRANTED, chunks.c.queue == queue), abandoned),
            ~select(drains.c.queue).where(drains.c.queue == queue).exists(),
            sources=(ChunkState.GRANTED, ChunkState.RUNNING),
            wanted=ChunkState.RUNNING,
            values={
                "queue": queue,
                "attempt": chunks.c.attempt + 1,
                "worker_deaths": chunks.c.worker_deaths + (cast(was_running, Integer) if counts_as_death else 0),
                "death_cause": cause,
                "lease_token": token,
                "lease_holder": holder,
                "lease_until": _from_now(lease_s),
                "claimed_at": func.now(),
            },
        )
        return _chunk(claimed[0]) if claimed else None

    def next_granted(self, queue: str, *, behind: int) -> int | None:
        """The chunk that was published to ``queue`` first and not claimed yet, where it is of the job of ``behind``.

        Chunks on which a worker died have nobody beside them: the next death would be counted for both.
        """
        before = chunks.alias().c
        job_id = select(before.job_id).where(before.id == behind, before.worker_deaths == 0).scalar_subquery()
        query = (
            select(chunks.c.id, and_(chunks.c.job_id == job_id, chunks.c.worker_deaths == 0))
            .where(chunks.c.queue == queue, chunks.c.state == ChunkState.GRANTED)
            .order_by(chunks.c.granted_at, chunks.c.id)
            .limit(1)
        )
        row = self._connection.execute(query).one_or_none()
        return row[0] if row is not None and row[1] else None

    def renew(self, chunk_id: int, *, token: str, lease_s: float) -> tuple[JobState, str | None] | None:
        """Keep a lease, and see how its job stands.

        Returns:
            The job's state and stop reason; None where the lease is lost.
        """
        statement = (
            chunks.update()
            .where(_held(chunk_id, token), jobs.c.id == chunks.c.job_id)
            .values(lease_until=_from_now(lease_s))
            .returning(jobs.c.state, jobs.c.stop_reason)
        )
        row = self._connection.execute(statement).one_or_none()
        return None if row is None else (JobState(row.state), row.stop_reason)

    def finish(self, chunk_id: int, *, token: str, outcome: ChunkOutcome) -> None:
        """Close a chunk with its outcome.

        Raises:
            LeaseLost: it is no longer ours; roll back.
        """
        told = {"succeeded": outcome.n_succeeded, "failed": outcome.n_failed, "deferred": outcome.n_deferred}
        self._close(chunk_id, token, ChunkState.DONE, values=dataclasses.asdict(outcome), told=told)

    def split(self, chunk_id: int, *, token: str) -> None:
        """Close a chunk that smaller ones replace.

        Raises:
            LeaseLost: it is no longer ours; roll back.
        """
        self._close(chunk_id, token, ChunkState.SPLIT)

    def stop_waiting(self, job_id: str, wanted: ChunkState) -> int:
        """Close every chunk of a job that no worker holds; returns how many."""
        of_job, values = chunks.c.job_id == job_id, {"finished_at": func.now()}
        return len(change_chunks(self._connection, of_job, sources=WAITING_CHUNK_STATES, wanted=wanted, values=values))

    def take_back_granted(self, job_id: str) -> int:
        """Let chunks of a job that were published but not claimed wait again; their messages find nothing to do."""
        of_job, sources = chunks.c.job_id == job_id, (ChunkState.GRANTED,)
        return len(change_chunks(self._connection, of_job, sources=sources, wanted=ChunkState.PENDING, values={}))

    def take_back_from_queue(self, queue: str) -> int:
        """Let chunks that were published to a queue but not claimed wait again, for other workers."""
        on_queue, sources = chunks.c.queue == queue, (ChunkState.GRANTED,)
        return len(change_chunks(self._connection, on_queue, sources=sources, wanted=ChunkState.PENDING, values={}))

    def stop_running(self, chunk_id: int, *, token: str, wanted: ChunkState) -> None:
        """Close a claimed chunk of a job that was stopped: its items did not run.

        Raises:
            LeaseLost: it is no longer ours; roll back.
        """
        self._close(chunk_id, token, wanted)

    def hand_back(
        self, chunk_id: int, *, token: str, delay_s: float, count_as_death: bool, death_cause: str | None = None
    ) -> bool:
        """Return a chunk unfinished, to be granted again after ``delay_s``; False where it is not ours."""
        handed_back = change_chunks(
            self._connection,
            _held(chunk_id, token),
            sources=(ChunkState.RUNNING,),
            wanted=ChunkState.PENDING,
            values={
                "lease_token": None,
                "lease_until": None,
                "not_before": _from_now(delay_s),
                "worker_deaths": chunks.c.worker_deaths + int(count_as_death),
                "death_cause": death_cause if count_as_death else chunks.c.death_cause,
            },
        )
        return bool(handed_back)

    def _close(
        self,
        chunk_id: int,
        token: str,
        wanted: ChunkState,
        *,
        values: Mapping[str, Any] = MappingProxyType({}),
        told: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        closed = change_chunks(
            self._connection,
            _held(chunk_id, token),
            sources=(ChunkState.RUNNING,),
            wanted=wanted,
            values={"lease_token": None, "finished_at": func.now(), **values},
            told=told,
        )
        if not closed:
            raise LeaseLost(f"the lease on chunk {chunk_id} is no longer ours")


def _held(chunk_id: int, token: str) -> ColumnElement[bool]:
    return and_(chunks.c.id == chunk_id, chunks.c.state == ChunkState.RUNNING, chunks.c.lease_token == token)


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + timedelta(seconds=seconds)


def _new_row(ordinal: int, chunk: NewChunk) -> dict[str, Any]:
    spans = None if chunk.spans is None else [_stored_span(span) for span in chunk.spans]
    return {
        "ordinal": ordinal,
        "byte_start": chunk.byte_start,
        "byte_end": chunk.byte_end,
        "first_index": chunk.first_index,
        "n_items": chunk.n_items,
        "items": spans,
        "estimated_tokens": chunk.estimated_tokens,
        "estimated_s": chunk.estimated_s,
        "not_before": _from_now(chunk.delay_s),
        "worker_deaths": chunk.worker_deaths,
    }


def _stored_span(span: ItemSpan) -> list[int]:
    """As a list; the attempts of earlier runs only where there were any, which most chunks need not carry."""
    numbers = dataclasses.astuple(span)
    return list(numbers if span.attempts_before else numbers[:-1])


def _chunk(row: RowMapping) -> Chunk:
    values = {spec.name: row[spec.name] for spec in dataclasses.fields(Chunk) if spec.name != "spans"}
    values["state"] = ChunkState(values["state"])
    spans = None if row["items"] is None else tuple(ItemSpan(*span) for span in row["items"])
    return Chunk(spans=spans, **values)
