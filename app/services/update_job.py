"""Change a job while it lives: its priority, its completion window, its metadata."""

from __future__ import annotations

from typing import Any

from app.db.notify import notify
from app.db.repositories.deadlines import Deadlines
from app.db.repositories.events import Events
from app.db.repositories.jobs import Jobs
from app.domain.jobs import Job, JobDetails
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.domain.windows import window_seconds
from app.errors import InvalidRequest, StateConflict
from app.services.explain_waiting import explain_waiting
from app.services.job_details import job_details
from app.wiring import Wiring


def update_job(*, wiring: Wiring, tenant_id: str, job_id: str, changes: dict[str, Any]) -> JobDetails:
    """Apply ``changes`` (of ``priority``, ``completion_window``, ``metadata``); the next decision follows them.

    A change to what already holds is no error and leaves no event.

    Raises:
        NotFound: no such job, or another tenant's.
        StateConflict: it has ended, or is ending.
        InvalidRequest: no window, or one that has passed already.
    """
    with wiring.database.begin() as connection:
        jobs = Jobs(connection)
        jobs.get(tenant_id, job_id)
        job = jobs.lock(job_id)
        _refuse_unless_live(job)
        wanted = {name: value for name, value in changes.items() if getattr(job, name) != value}
        if "completion_window" in wanted:
            _set_window(Deadlines(connection), job, wanted.pop("completion_window"))
        if wanted:
            jobs.update(job.id, **wanted)
        changed = jobs.get_any(job.id)
        if told := _differences(job, changed, changes):
            Events(connection).append(job.tenant_id, job.id, "update", data={"changes": told})
            notify(connection)
        details = job_details(connection, [changed], wiring.models)
        return explain_waiting(connection, wiring.outlooks, details)[0]


def _refuse_unless_live(job: Job) -> None:
    is_ending = job.stop_reason is not None or job.state is JobState.FINALIZING
    if is_ending or job.state in TERMINAL_JOB_STATES:
        message = f"Job {job.id} is {job.state}; only a job that has neither ended nor been stopped can be changed."
        raise StateConflict(message, current=job.state, wanted=job.state)


def _set_window(deadlines: Deadlines, job: Job, window: str) -> None:
    if not deadlines.set_window(job.id, window, window_s=window_seconds(window)):
        message = (
            f"'completion_window' counts from the creation of the job, at {job.created_at.isoformat()}, or from its "
            f"last retry: {window!r} has passed already."
        )
        raise InvalidRequest(message, param="completion_window")


def _differences(before: Job, after: Job, changes: dict[str, Any]) -> dict[str, Any]:
    """What changed, each as ``{"from", "to"}``."""
    return {
        name: {"from": getattr(before, name), "to": getattr(after, name)}
        for name in changes
        if getattr(before, name) != getattr(after, name)
    }
