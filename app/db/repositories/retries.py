"""Running items of a job again: what is taken over from earlier runs, and what that supersedes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, null, or_, select

from app.db.repositories.events import Events
from app.db.repositories.jobs import Jobs
from app.db.tables import chunks, files, jobs, result_parts
from app.domain.jobs import Job, ResultPart
from app.domain.states import STOPPED_CHUNK, ChunkState, JobState

_PART = [result_parts.c[name] for name in ("seq", "outcome", "object_key", "size_bytes", "n_items", "sha256")]


class Retries:
    """Takes items over into a new run, inside one transaction that holds the job's row lock."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def is_input_there(self, job: Job) -> bool:
        """Whether the file a job was made of is neither deleted nor expired; inline input lives as the results do."""
        if job.input_file_id is None:
            return True
        lives = or_(files.c.expires_at.is_(None), files.c.expires_at > func.clock_timestamp())
        query = select(files.c.id).where(
            files.c.id == job.input_file_id, files.c.deleted_at.is_(None), ~files.c.swept, lives
        )
        return self._connection.execute(query).one_or_none() is not None

    def are_results_there(self, job: Job) -> bool:
        """Whether the results of a job are not past their life, at this moment and not that of the transaction."""
        lives = or_(jobs.c.results_expire_at.is_(None), jobs.c.results_expire_at > func.clock_timestamp())
        query = select(jobs.c.id).where(jobs.c.id == job.id, ~jobs.c.results_swept, lives)
        return self._connection.execute(query).one_or_none() is not None

    def take_over(self, job: Job, outcomes: Collection[str]) -> dict[str, int]:
        """Let what ended so count no longer, neither in chunks nor in parts; gives how many items of each outcome."""
        run = job.attempt_runs + 1
        taken = (
            chunks.update()
            .where(chunks.c.job_id == job.id, chunks.c.retried_in.is_(None), or_(*map(_ended, outcomes)))
            .values(retried_in=run)
            .returning(chunks.c.state, chunks.c.n_items, chunks.c.n_failed)
        )
        found: dict[str, int] = {}
        for state, n_items, n_failed in self._connection.execute(taken):
            outcome, n = ("failed", n_failed) if state == ChunkState.DONE else (state, n_items)
            found[outcome] = found.get(outcome, 0) + n
        if found:
            self._connection.execute(
                result_parts.update()
                .where(_stands(job.id), result_parts.c.outcome.in_(outcomes))
                .values(superseded_in=run)
            )
        return found

    def begin_run(self, job: Job, *, completion_window_s: int, items: dict[str, int]) -> Job | None:
        """Make an ended job wait for the planner again, with a whole window before it.

        Args:
            items: outcome -> how many items run again; told in the event.
        Returns:
            The job as it is now, or None where it had left its state meanwhile.
        """
        run = job.attempt_runs + 1
        fresh: dict[str, Any] = dict.fromkeys(
            (
                "stop_reason",
                "refusal",
                "queued_at",
                "cancelling_at",
                "finalizing_at",
                "finished_at",
                "output_file_id",
                "error_file_id",
                "escalated_at",
                "prepare_token",
                "prepare_until",
            )
        )
        deadline_at = func.now() + timedelta(seconds=completion_window_s)
        begun = Jobs(self._connection).change_state(
            job,
            JobState.QUEUED,
            reason={"run": run, "items": items},
            **fresh,
            # The results of a group live and end together, whichever of its jobs is retried.
            results_expire_at=job.results_expire_at if job.group_id else None,
            final=null(),
            attempt_runs=run,
            prepare_attempts=0,
            window_from=func.now(),
            deadline_at=deadline_at,
        )
        self._connection.execute(
            files.update().where(files.c.job_id == job.id, files.c.deleted_at.is_(None)).values(deleted_at=func.now())
        )
        return begun

    def give_back(self, job: Job, *, code: str, message: str) -> None:
        """Let stand again what this run had taken over: it cannot be planned."""
        run = job.attempt_runs
        self._connection.execute(
            chunks.update().where(chunks.c.job_id == job.id, chunks.c.retried_in == run).values(retried_in=None)
        )
        self._connection.execute(
            result_parts.update()
            .where(result_parts.c.job_id == job.id, result_parts.c.superseded_in == run)
            .values(superseded_in=None)
        )
        data = {"run": run, "code": code, "message": message}
        Events(self._connection).append(job.tenant_id, job.id, "retry_given_up", data=data)

    def failed_parts(self, job: Job) -> dict[int, ResultPart]:
        """The parts of failed items that the job's present run supersedes, by their chunk."""
        query = select(result_parts.c.chunk_id, *_PART).where(
            result_parts.c.job_id == job.id,
            result_parts.c.superseded_in == job.attempt_runs,
            result_parts.c.outcome == "failed",
        )
        rows = self._connection.execute(query).mappings()
        return {row["chunk_id"]: ResultPart(**{name: row[name] for name in row if name != "chunk_id"}) for row in rows}


def _ended(outcome: str) -> ColumnElement[bool]:
    """Whether a chunk holds items that ended so."""
    if outcome == "failed":
        return and_(chunks.c.state == ChunkState.DONE, chunks.c.n_failed > 0)
    return chunks.c.state == STOPPED_CHUNK[outcome]


def _stands(job_id: str) -> ColumnElement[bool]:
    return and_(result_parts.c.job_id == job_id, result_parts.c.superseded_in.is_(None))
