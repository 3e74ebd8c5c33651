"""Accept a group: one commit, as for a job. Who leads it makes its members."""

from __future__ import annotations

from dataclasses import replace

from app.db.notify import notify
from app.db.repositories.groups import Groups
from app.domain.files import File
from app.domain.groups import GroupDetails
from app.domain.ids import GROUP_PREFIX, new_id
from app.domain.jobs import JobDetails, JobRequest
from app.domain.windows import window_seconds
from app.services.answer_once import Once
from app.services.check_receiver import check_job_webhook
from app.services.group_details import group_details
from app.services.queue_room import check_queue_in_turn
from app.services.submit_job import asked_of, check_model, check_room, source_of
from app.services.webhook_secrets import job_webhook_secret
from app.wiring import Wiring


def submit_group(
    *,
    wiring: Wiring,
    tenant_id: str,
    request: JobRequest,
    file: File,
    once: Once[JobDetails | GroupDetails] | None = None,
) -> GroupDetails:
    """Make a group of jobs that share ``file``.

    Raises:
        InvalidRequest: unknown endpoint, model or window.
        ReceiverRefused: its webhook may not be sent there.
        TooManyAtOnce: names of such receivers are being looked up already, as many as may be.
        QueueFull: the tenant has too many unfinished jobs; a group counts as one.
        StorageQuotaExceeded: the tenant has no room for the results.
        DatabaseUnavailable: nothing was accepted; send it again.
    """
    window_s = window_seconds(request.completion_window)
    check_model(request, wiring)
    check_job_webhook(wiring, tenant_id, request.webhook)
    in_turn = check_room(wiring, tenant_id)
    values = {
        "id": new_id(GROUP_PREFIX),
        "tenant_id": tenant_id,
        "member": asked_of(request),
        "model": request.model,
        "n_items": file.n_lines,
        **source_of(file),
    }
    with wiring.database.begin() as connection:
        if in_turn:
            check_queue_in_turn(connection, tenant_id=tenant_id, limit=wiring.settings.max_queued_jobs)
        group = Groups(connection).insert(completion_window_s=window_s, values=values)
        details = replace(
            group_details(connection, group, wiring.models),
            webhook_secret=job_webhook_secret(wiring.settings, tenant_id, request.webhook),
        )
        if once is not None:
            once.keep(connection, details)
        notify(connection)
        return details
