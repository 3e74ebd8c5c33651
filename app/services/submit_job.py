"""Accept a job: store its input, then one commit. The broker is not needed and not asked."""

from __future__ import annotations

import io
import uuid
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from app.db.notify import notify
from app.db.repositories.files import Files
from app.db.repositories.jobs import Jobs
from app.db.session import Database
from app.domain.files import BATCH_PURPOSE, File
from app.domain.ids import new_id
from app.domain.inline_items import inline_lines
from app.domain.jobs import Job, JobDetails, JobRequest
from app.domain.states import JobState
from app.domain.windows import window_seconds
from app.errors import InvalidRequest, NotFound, RequestTooLarge
from app.observability.tracing import traceparent
from app.services.answer_once import Once
from app.services.check_receiver import check_job_webhook
from app.services.discard_object import discarded_unless_named
from app.services.job_details import job_details
from app.services.queue_room import check_queue, check_queue_in_turn
from app.services.storage_quota import check_storage
from app.services.webhook_secrets import job_webhook_secret
from app.wiring import Wiring
from config.models import ModelSpec
from config.settings import Settings


def submit_job(
    *, wiring: Wiring, tenant_id: str, request: JobRequest, once: Once[JobDetails] | None = None
) -> JobDetails:
    """Make a job in state ``validating``; once this returns, it is durable.

    Raises:
        InvalidRequest: unknown endpoint, model, window or file, or a file of another purpose; ``param`` names it.
        ReceiverRefused: its webhook may not be sent there.
        TooManyAtOnce: names of such receivers are being looked up already, as many as may be.
        RequestTooLarge: more items than a request may hold.
        QueueFull: the tenant has too many unfinished jobs.
        StorageQuotaExceeded: the tenant has no room for input and results.
        StorageUnavailable, DatabaseUnavailable: nothing was accepted; send it again.
    """
    window_s = window_seconds(request.completion_window)
    check_model(request, wiring)
    check_job_webhook(wiring, tenant_id, request.webhook)
    in_turn = check_room(wiring, tenant_id)
    if request.input_file_id is not None:
        file = input_file(wiring.database, tenant_id, request.input_file_id)
        _check_size(file, wiring)
        return _accept(wiring, window_s, _row(tenant_id, request, source_of(file)), once, in_turn=in_turn)
    source = _inline_input(wiring, tenant_id, request)
    with discarded_unless_named(wiring.storage, source["input_key"]):
        return _accept(wiring, window_s, _row(tenant_id, request, source), once, in_turn=in_turn)


def _accept(
    wiring: Wiring, window_s: int, row: dict[str, Any], once: Once[JobDetails] | None, *, in_turn: bool
) -> JobDetails:
    with wiring.database.begin() as connection:
        job = insert_job(connection, wiring.settings, window_s=window_s, row=row, in_turn=in_turn)
        details = replace(
            job_details(connection, [job], wiring.models)[0],
            webhook_secret=job_webhook_secret(wiring.settings, job.tenant_id, job.webhook),
        )
        if once is not None:
            once.keep(connection, details)
        return details


def insert_job(connection: Connection, settings: Settings, *, window_s: int, row: dict[str, Any], in_turn: bool) -> Job:
    """Insert a job whose input is stored, as long as its tenant has room; the commit wakes the dispatcher.

    Raises:
        QueueFull, StorageQuotaExceeded: nothing may be committed.
    """
    if in_turn:
        check_queue_in_turn(connection, tenant_id=row["tenant_id"], limit=settings.max_queued_jobs)
    job = Jobs(connection).insert(completion_window_s=window_s, values=row)
    check_storage(connection, settings, tenant_id=job.tenant_id, new_bytes=job.input_size_bytes, is_counted=True)
    notify(connection)
    return job


def check_model(request: JobRequest, wiring: Wiring) -> None:
    """Refuse an endpoint or a model that this installation does not serve.

    Raises:
        InvalidRequest: ``param`` names which.
    """
    endpoints = sorted({endpoint for model in wiring.models.values() for endpoint in model.endpoints})
    if request.endpoint not in endpoints:
        message = f"'endpoint' must be one of {', '.join(endpoints)}; it is {request.endpoint[:80]!r}."
        raise InvalidRequest(message, param="endpoint")
    if request.model is None:
        return
    model = wiring.models.get(request.model)
    if model is None:
        message = f"There is no model {request.model[:80]!r}; GET /v1/models lists them."
        raise InvalidRequest(message, param="model", code="model_not_found")
    if not model.serves(request.endpoint):
        raise InvalidRequest(_not_served(model, request.endpoint), param="model")


def _not_served(model: ModelSpec, endpoint: str) -> str:
    return f"Model {model.alias!r} serves {', '.join(model.endpoints)}, not {endpoint}."


def check_room(wiring: Wiring, tenant_id: str) -> bool:
    """Refuse where a tenant has too much unfinished or too much stored; a group counts as one job.

    Returns:
        Whether the queue has to be looked at again where the job is accepted.
    Raises:
        QueueFull, StorageQuotaExceeded: at the hard cap, or at the quota.
    """
    with wiring.database.begin() as connection:
        check_storage(connection, wiring.settings, tenant_id=tenant_id)
        return check_queue(connection, tenant_id=tenant_id, limit=wiring.settings.max_queued_jobs)


def input_file(database: Database, tenant_id: str, file_id: str) -> File:
    """A file that a job may read.

    Raises:
        InvalidRequest: there is none, or it has another purpose.
    """
    param = "input_file_id"
    with database.begin() as connection:
        try:
            file = Files(connection).get(tenant_id, file_id)
        except NotFound as error:
            message = f"There is no file {file_id[:80]!r}; upload it with POST /v1/files."
            raise InvalidRequest(message, param=param) from error
    if file.purpose != BATCH_PURPOSE or file.object_key is None:
        message = f"File {file.id} has purpose {file.purpose!r}; a job's input needs purpose {BATCH_PURPOSE!r}."
        raise InvalidRequest(message, param=param)
    return file


def source_of(file: File) -> dict[str, Any]:
    """What a row says about an input that was uploaded."""
    return {"input_file_id": file.id, "input_key": file.object_key, "input_size_bytes": file.size_bytes}


def _check_size(file: File, wiring: Wiring) -> None:
    limit = wiring.settings.max_file_bytes
    if file.size_bytes > limit:
        message = (
            f"File {file.id} has {file.size_bytes} bytes, {limit} at most here; POST /v1/jobs takes it as a group."
        )
        raise RequestTooLarge(message, param="input_file_id")


def _inline_input(wiring: Wiring, tenant_id: str, request: JobRequest) -> dict[str, Any]:
    inputs = request.inputs or ()
    if len(inputs) > wiring.settings.max_inline_items:
        limit = wiring.settings.max_inline_items
        message = f"'inputs' holds {len(inputs)} items, {limit} at most; upload a file instead."
        raise RequestTooLarge(message, param="inputs")
    content = b"".join(inline_lines(inputs, endpoint=request.endpoint, model=request.model))
    key = f"inputs/{tenant_id}/{uuid.uuid4().hex}"
    stored = wiring.storage.put(key, io.BytesIO(content), size_bytes=len(content))
    return {"input_key": stored.key, "input_size_bytes": stored.size_bytes, "n_items": len(inputs)}


def _row(tenant_id: str, request: JobRequest, source: dict[str, Any]) -> dict[str, Any]:
    return {"id": new_id("job_"), "tenant_id": tenant_id, "state": JobState.VALIDATING, **asked_of(request), **source}


def asked_of(request: JobRequest) -> dict[str, Any]:
    """The columns that say what is asked of a job, whatever its input."""
    return {
        "dialect": request.dialect,
        "endpoint": request.endpoint,
        "model": request.model,
        "priority": request.priority,
        "completion_window": request.completion_window,
        "on_deadline": request.on_deadline,
        "max_attempts": request.max_attempts,
        "item_timeout_s": request.item_timeout_s,
        "on_oversize": request.on_oversize,
        "parameters": request.parameters,
        "metadata": request.metadata,
        "output_expires_after_s": request.output_expires_after_s,
        "schedule_id": request.schedule_id,
        "webhook": asdict(request.webhook) if request.webhook else None,
        "api_version": request.api_version,
        "traceparent": traceparent(),
    }
