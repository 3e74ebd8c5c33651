"""Retry a job in place: what did not succeed runs again, and its new outcomes take the place of the old ones."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.db.repositories.retries import Retries
from app.domain.jobs import Job, JobDetails
from app.domain.retry_plan import RETRIED_OUTCOMES
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.domain.windows import window_seconds
from app.errors import Gone, NothingToRetry, StateConflict
from app.services.answer_once import Once, unless_a_twin_won
from app.services.job_details import job_details
from app.services.queue_room import check_queue_in_turn
from app.services.submit_job import check_room
from app.wiring import Wiring


def retry_job(
    *,
    wiring: Wiring,
    tenant_id: str,
    job_id: str,
    include: Collection[str] = RETRIED_OUTCOMES,
    once: Once[JobDetails] | None = None,
) -> JobDetails:
    """Let the items of an ended job that ended so run again; once this returns, it is durable.

    Only rows change here, however many items there are: they count as pending until the planner has cut them into
    chunks. The job has its whole window before it again.

    Args:
        include: outcomes out of ``RETRIED_OUTCOMES``.
    Raises:
        NotFound: no such job, or another tenant's.
        StateConflict: it has not ended.
        NothingToRetry: none of its items ended so.
        Gone: its input or its results were deleted or are past their life.
        QueueFull: the tenant has too many unfinished jobs.
        StorageQuotaExceeded: the tenant has no room for results.
    """
    in_turn = check_room(wiring, tenant_id)
    with unless_a_twin_won(once), wiring.database.begin() as connection:
        if in_turn:
            check_queue_in_turn(connection, tenant_id=tenant_id, limit=wiring.settings.max_queued_jobs)
        jobs = Jobs(connection)
        group_id = jobs.get(tenant_id, job_id).group_id
        if group_id is not None:
            Groups(connection).lock(group_id)
        job = retry_locked(connection, jobs.lock(job_id), include)
        if group_id is not None:
            Groups(connection).reopen(group_id)
        details = job_details(connection, [job], wiring.models)[0]
        if once is not None:
            once.keep(connection, details)
        return details


def retry_locked(connection: Connection, job: Job, include: Collection[str] = RETRIED_OUTCOMES) -> Job:
    """Retry a job whose row this transaction holds; of two retries at once the second finds the job live.

    Raises:
        StateConflict, NothingToRetry, Gone: see ``retry_job``.
    """
    retries = Retries(connection)
    if job.state not in TERMINAL_JOB_STATES:
        message = f"Job {job.id} is {job.state}; only a job that has ended can be retried."
        raise StateConflict(message, current=job.state, wanted=JobState.QUEUED)
    _refuse_if_gone(retries, job)
    items = retries.take_over(job, include)
    begun = None
    if items:
        window_s = window_seconds(job.completion_window)
        begun = retries.begin_run(job, completion_window_s=window_s, items=items)
    if begun is None:
        raise NothingToRetry(_nothing(job, include), current=job.state, wanted=JobState.QUEUED)
    notify(connection)
    return begun


def _refuse_if_gone(retries: Retries, job: Job) -> None:
    if not retries.are_results_there(job):
        raise Gone(f"The results of job {job.id} are past their life; submit its input as a new job.")
    if not retries.is_input_there(job):
        message = f"The input file {job.input_file_id} of job {job.id} was deleted or has expired; upload it anew."
        raise Gone(message, param="input_file_id")


def _nothing(job: Job, include: Collection[str]) -> str:
    if job.failure is not None:
        return f"The input of job {job.id} was refused, so nothing of it can run: mend it and submit it as a new job."
    wanted = " or ".join(outcome for outcome in RETRIED_OUTCOMES if outcome in include)
    return f"Job {job.id} has no item that is {wanted}."
