"""Resume a paused job where it was."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.jobs import Jobs
from app.domain.jobs import Job, JobDetails
from app.domain.states import RUNNABLE_JOB_STATES, JobState
from app.errors import StateConflict
from app.services.job_details import job_details
from app.wiring import Wiring


def resume_job(*, wiring: Wiring, tenant_id: str, job_id: str) -> JobDetails:
    """Let a paused job go on. Resuming one that is not paused, but could run, is no error.

    Raises:
        NotFound: no such job, or another tenant's.
        StateConflict: it has ended, is ending, or is held for review.
    """
    with wiring.database.begin() as connection:
        jobs = Jobs(connection)
        jobs.get(tenant_id, job_id)
        job = resume_locked(connection, jobs.lock(job_id))
        return job_details(connection, [job], wiring.models)[0]


def resume_locked(connection: Connection, job: Job) -> Job:
    """Resume a job whose row this transaction holds.

    Raises:
        StateConflict: see ``resume_job``.
    """
    before = _state_before_the_pause(job)
    if job.stop_reason is not None or job.state not in {JobState.PAUSED, JobState.VALIDATING, *RUNNABLE_JOB_STATES}:
        message = f"Job {job.id} is {job.state}; only a paused job that has not been stopped can be resumed."
        raise StateConflict(message, current=job.state, wanted=before)
    if job.state is not JobState.PAUSED:
        return job
    resumed = Jobs(connection).change_state(job, before)
    notify(connection)
    return resumed or job


def _state_before_the_pause(job: Job) -> JobState:
    if job.queued_at is None:
        return JobState.QUEUED if job.attempt_runs else JobState.VALIDATING
    return JobState.QUEUED if job.started_at is None else JobState.RUNNING
