"""Close what waits of jobs whose completion window has passed; what finished is kept."""

from __future__ import annotations

from app.db.repositories.chunks import Chunks
from app.db.repositories.deadlines import Deadlines
from app.db.repositories.events import Events
from app.db.repositories.jobs import Jobs
from app.db.session import Database
from app.domain.states import LIVE_JOB_STATES, ChunkState, JobState

JOBS_AT_ONCE = 100


def expire_jobs(*, database: Database) -> int:
    """Stop every overdue job, by the database's clock; returns how many. The finaliser does the rest."""
    with database.begin() as connection:
        overdue = Jobs(connection).overdue(JOBS_AT_ONCE)
    for job_id in overdue:
        with database.begin() as connection:
            jobs = Jobs(connection)
            job = jobs.lock(job_id)
            # It may have ended, have been cancelled or been given a longer window since it was found.
            is_running_on = job.stop_reason is None and job.state in LIVE_JOB_STATES - {JobState.FINALIZING}
            if is_running_on and Deadlines(connection).has_passed(job.id):
                jobs.update(job.id, stop_reason="expired")
                Events(connection).append(job.tenant_id, job.id, "stop", data={"reason": "expired"})
                Chunks(connection).stop_waiting(job.id, ChunkState.EXPIRED)
    return len(overdue)
