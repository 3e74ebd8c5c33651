"""Finalise a job whose chunks are all terminal. Recounts from the database; may run any number of times.

The chord callback calls this after each wave, and the dispatcher calls it for jobs whose callback was lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, func

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.files import Files
from app.db.repositories.jobs import Jobs
from app.db.repositories.outcomes import Outcomes
from app.domain.chunks import Chunk, NewPart
from app.domain.files import OUTPUT_PURPOSE
from app.domain.ids import batch_id, new_id
from app.domain.jobs import Counts, Job
from app.domain.states import TERMINAL_JOB_STATES, JobState, final_state
from app.errors import ResultsIncomplete
from app.services.job_details import details_from, final_of
from app.services.never_ran import store_never_ran
from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring

PART_OUTCOMES = ("succeeded", "failed", "cancelled", "expired")


class Finished(StrEnum):
    """How an attempt to finalise a job ended."""

    FINISHED = "finished"
    NOT_YET = "not_yet"
    ALREADY = "already"


def finish_job(*, wiring: Wiring, job_id: str) -> Finished:
    """Close a job's results and give it its terminal state, once.

    Raises:
        StorageUnavailable, DatabaseUnavailable: nothing was closed; it will be tried again.
        ResultsIncomplete: parts and counts differ; a bug, and the job stays ``finalizing`` for a person to look at.
    """
    job, stopped = _begin(wiring, job_id)
    if job.state in TERMINAL_JOB_STATES:
        return Finished.ALREADY
    if job.state not in {JobState.FINALIZING, JobState.CANCELLING} or stopped is None:
        return Finished.NOT_YET
    parts = store_never_ran(
        storage=wiring.storage, job=job, chunks=stopped, max_line_bytes=wiring.settings.max_line_bytes
    )
    with wiring.database.begin() as connection:
        return _close(wiring, connection, job, parts)


def _begin(wiring: Wiring, job_id: str) -> tuple[Job, list[Chunk] | None]:
    """Move a job that is ready to ``finalizing``.

    Returns:
        The job, and its chunks that never ran; None instead of them where the job is not ready.
    """
    with wiring.database.begin() as connection:
        jobs, chunks = Jobs(connection), Chunks(connection)
        job = jobs.lock(job_id)
        if job.state in TERMINAL_JOB_STATES or job.queued_at is None or chunks.count_live(job.id):
            return job, None
        if job.state not in {JobState.FINALIZING, JobState.CANCELLING}:
            job = jobs.change_state(job, JobState.FINALIZING, finalizing_at=func.now()) or job
        return job, chunks.stopped_in_run(job.id, job.attempt_runs)


def _close(wiring: Wiring, connection: Connection, begun: Job, parts: Sequence[NewPart]) -> Finished:
    """The one transaction that ends a job; of two finalisers the second finds it ended, or even retried since."""
    jobs, outcomes = Jobs(connection), Outcomes(connection)
    job = jobs.lock(begun.id)
    if job.state in TERMINAL_JOB_STATES or job.attempt_runs != begun.attempt_runs:
        return Finished.ALREADY
    outcomes.add_parts(job.tenant_id, job.id, None, parts)
    tally, totals = outcomes.tally(job.id), outcomes.part_totals(job.id)
    _check_complete(job, tally.counts, totals)
    quota = tenant_quota(connection, wiring.settings, tenant_id=job.tenant_id)
    expires_after_s = quota.life_s(job.output_expires_after_s or wiring.settings.results_retention_s)
    jobs.change_state(
        job,
        _terminal_state(job, tally.counts),
        finished_at=func.now(),
        # The results of a group live and end together: who closes it says when.
        results_expire_at=job.results_expire_at if job.group_id else func.now() + timedelta(seconds=expires_after_s),
        final=final_of(details_from(job, tally, wiring.models)),
        **_result_files(connection, job, totals, expires_after_s),
    )
    notify(connection)
    return Finished.FINISHED


def _terminal_state(job: Job, counts: Counts) -> JobState:
    if job.state is JobState.CANCELLING:
        return JobState.CANCELLED
    return final_state(
        total=counts.total, succeeded=counts.succeeded, cancelled=counts.cancelled, expired=counts.expired
    )


def _check_complete(job: Job, counts: Counts, totals: dict[str, tuple[int, int]]) -> None:
    """The parts must hold exactly what the chunks counted."""
    counted = {outcome: getattr(counts, outcome) for outcome in PART_OUTCOMES}
    held = {outcome: totals.get(outcome, (0, 0))[0] for outcome in PART_OUTCOMES}
    if counted != held or sum(held.values()) != job.n_items:
        raise ResultsIncomplete(f"job {job.id} of {job.n_items} items counts {counted} but its parts hold {held}")


def _result_files(
    connection: Connection, job: Job, totals: dict[str, tuple[int, int]], expires_after_s: int
) -> dict[str, Any]:
    """Make the output and error files of a batch; one that would be empty is not made."""
    if not job.dialect.stores_openai_lines:
        return {}
    sizes = {
        "output": totals.get("succeeded", (0, 0))[1],
        "error": sum(totals.get(outcome, (0, 0))[1] for outcome in PART_OUTCOMES if outcome != "succeeded"),
    }
    made = {}
    for kind, size_bytes in sizes.items():
        if size_bytes:
            file = Files(connection).add(
                file_id=new_id("file-"),
                tenant_id=job.tenant_id,
                purpose=OUTPUT_PURPOSE,
                filename=f"{batch_id(job.id)}_{kind}.jsonl",
                size_bytes=size_bytes,
                expires_after_s=expires_after_s,
                job_id=job.id,
            )
            made[f"{kind}_file_id"] = file.id
    return made
