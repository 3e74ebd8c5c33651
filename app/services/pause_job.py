"""Pause a job: nothing of it starts any more, what runs stops at its next micro-batch, what finished is kept."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.domain.jobs import Job, JobDetails
from app.domain.states import JOB_TRANSITIONS, JobState
from app.errors import StateConflict
from app.services.job_details import job_details
from app.wiring import Wiring


def pause_job(*, wiring: Wiring, tenant_id: str, job_id: str) -> JobDetails:
    """Set a job aside until it is resumed. Pausing twice is no error; its window runs on.

    Raises:
        NotFound: no such job, or another tenant's.
        StateConflict: it has ended, is ending, or is held for review.
    """
    with wiring.database.begin() as connection:
        jobs = Jobs(connection)
        jobs.get(tenant_id, job_id)
        job = pause_locked(connection, jobs.lock(job_id))
        return job_details(connection, [job], wiring.models)[0]


def pause_locked(connection: Connection, job: Job) -> Job:
    """Pause a job whose row this transaction holds.

    Raises:
        StateConflict: see ``pause_job``.
    """
    if job.state is JobState.PAUSED:
        return job
    _refuse_unless_pausable(job)
    paused = Jobs(connection).change_state(job, JobState.PAUSED)
    Chunks(connection).take_back_granted(job.id)
    notify(connection)
    return paused or job


def _refuse_unless_pausable(job: Job) -> None:
    if job.stop_reason is not None or JobState.PAUSED not in JOB_TRANSITIONS[job.state]:
        stopping = ", and its window has closed" if job.stop_reason == "expired" else ""
        message = f"Job {job.id} is {job.state}{stopping}; only a job that waits or runs can be paused."
        raise StateConflict(message, current=job.state, wanted=JobState.PAUSED)
