"""Make the jobs of one run of a schedule: each once, even if a process dies in the middle and another goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import structlog

from app.db.repositories.schedules import Schedules
from app.domain.schedules import Schedule, ScheduleRun, request_of, window_until
from app.errors import DependencyFailed, RequestRefused
from app.observability.tracing import span
from app.services.submit_job import submit_job
from app.services.take_inbox_object import inbox_objects, take_inbox_object
from app.wiring import Wiring

log = structlog.get_logger(__name__)


def start_run(*, wiring: Wiring, run: ScheduleRun) -> None:
    """Submit the run's jobs and record them; leave the run open where that must be tried again.

    The schedule's row is locked meanwhile, so that two processes never make the jobs of one schedule at once.
    """
    try:
        with wiring.database.begin() as connection:
            schedules = Schedules(connection)
            schedule = schedules.lock(run.schedule_id)
            if schedule is None:
                return
            run = schedules.get_run(run.tenant_id, run.id)
            if run.job_ids or run.problem:
                return
            job_ids, problem = _make_jobs(wiring, schedules, schedule, run)
            schedules.close_run(run.id, job_ids=job_ids, problem=problem)
    except DependencyFailed as error:
        log.warning("schedule_run_waits", run_id=run.id, reason=error.message)
    else:
        log.info("schedule_run_started", run_id=run.id, job_ids=job_ids, problem=problem)


def _make_jobs(
    wiring: Wiring, schedules: Schedules, schedule: Schedule, run: ScheduleRun
) -> tuple[list[str], str | None]:
    """Submit one job per input; what is refused for good becomes the run's problem, what may pass later is raised."""
    job_ids, problems = [], []
    for file_id in _inputs(wiring, schedules, schedule):
        try:
            job_ids.append(_make_job(wiring, schedules, schedule, run, file_id))
        except RequestRefused as error:
            if error.retryable:
                raise DependencyFailed(error.message) from error
            problems.append(error.message)
    if not job_ids and not problems:
        problems.append(f"there was no new .jsonl object under {schedule.source.prefix!r} in the inbox")
    return job_ids, "; ".join(problems) or None


def _make_job(wiring: Wiring, schedules: Schedules, schedule: Schedule, run: ScheduleRun, file_id: str) -> str:
    made = schedules.unrecorded_job(run, file_id)
    if made is not None:
        return made
    request = request_of(schedule.job_template, schedule_id=schedule.id, file_id=file_id)
    if schedule.due_by is not None:
        window = window_until(schedule.due_by, schedule.timezone, now=schedules.now())
        request = replace(request, completion_window=window)
    with span("submit scheduled job", tenant_id=schedule.tenant_id, schedule_id=schedule.id):
        return submit_job(wiring=wiring, tenant_id=schedule.tenant_id, request=request).job.id


def _inputs(wiring: Wiring, schedules: Schedules, schedule: Schedule) -> Iterator[str]:
    """Ids of the files this run is to work on."""
    if schedule.source.file_id is not None:
        yield schedule.source.file_id
        return
    found = inbox_objects(wiring=wiring, schedule=schedule)
    taken = schedules.taken(schedule.id, list(found))
    for file_id, item in found.items():
        if file_id not in taken:
            take_inbox_object(wiring=wiring, tenant_id=schedule.tenant_id, file_id=file_id, item=item)
            yield file_id
