"""Make a schedule."""

from __future__ import annotations

from app.db.repositories.files import Files
from app.db.repositories.schedules import Schedules
from app.domain.cron import next_tick
from app.domain.files import BATCH_PURPOSE
from app.domain.schedules import Schedule, ScheduleRequest, template_of
from app.domain.windows import window_seconds
from app.errors import InvalidRequest, NotFound
from app.services.answer_once import Once
from app.services.check_receiver import check_job_webhook
from app.services.submit_job import check_model
from app.wiring import Wiring


def create_schedule(
    *, wiring: Wiring, tenant_id: str, request: ScheduleRequest, once: Once[Schedule] | None = None
) -> Schedule:
    """Store a schedule; its first tick is the next moment its cron line names.

    Raises:
        InvalidRequest: its cron line, zone, source, endpoint, model or window is wrong; ``param`` names it.
    """
    window_seconds(request.job.completion_window)
    check_model(request.job, wiring)
    check_job_webhook(wiring, tenant_id, request.job.webhook, param="job.webhook.url")
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        if request.source.file_id is not None:
            _check_file(Files(connection), tenant_id, request.source.file_id)
        schedule = schedules.add(
            tenant_id,
            name=request.name,
            cron=request.cron,
            timezone=request.timezone,
            job_template=template_of(request.job),
            source=request.source,
            due_by=request.due_by,
            next_tick_at=next_tick(request.cron, request.timezone, after=schedules.now()),
        )
        if once is not None:
            once.keep(connection, schedule)
        return schedule


def _check_file(files: Files, tenant_id: str, file_id: str) -> None:
    try:
        file = files.get(tenant_id, file_id)
    except NotFound as error:
        raise InvalidRequest(error.message, param="source.file_id") from error
    if file.purpose != BATCH_PURPOSE or file.object_key is None:
        message = f"File {file.id} has purpose {file.purpose!r}; a job's input needs purpose 'batch'."
        raise InvalidRequest(message, param="source.file_id")
