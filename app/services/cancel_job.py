"""Cancel a job: what waits is closed at once, what runs comes to its end, what finished is kept."""

from __future__ import annotations

from sqlalchemy import Connection, func

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.jobs import Jobs
from app.domain.jobs import Job, JobDetails
from app.domain.states import TERMINAL_JOB_STATES, ChunkState, JobState
from app.errors import StateConflict
from app.services.job_details import job_details
from app.wiring import Wiring


def cancel_job(*, wiring: Wiring, tenant_id: str, job_id: str) -> JobDetails:
    """Ask for the end of a job. Asking twice is no error.

    Raises:
        NotFound: no such job, or another tenant's.
        StateConflict: it has ended already, or its results are being closed.
    """
    with wiring.database.begin() as connection:
        jobs = Jobs(connection)
        jobs.get(tenant_id, job_id)
        job = cancel_locked(connection, jobs.lock(job_id))
        return job_details(connection, [job], wiring.models)[0]


def cancel_locked(connection: Connection, job: Job) -> Job:
    """Cancel a job whose row this transaction holds.

    Raises:
        StateConflict: see ``cancel_job``.
    """
    if job.state in TERMINAL_JOB_STATES - {JobState.CANCELLED} or job.state is JobState.FINALIZING:
        message = f"Job {job.id} is {job.state}; only a job that has not ended can be cancelled."
        raise StateConflict(message, current=job.state, wanted=JobState.CANCELLED)
    if job.state in {JobState.CANCELLING, JobState.CANCELLED}:
        return job
    jobs = Jobs(connection)
    stopping = jobs.change_state(job, JobState.CANCELLING, stop_reason="cancelled", cancelling_at=func.now())
    Chunks(connection).stop_waiting(job.id, ChunkState.CANCELLED)
    notify(connection)
    return stopping or job
