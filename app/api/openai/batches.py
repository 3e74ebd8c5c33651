"""``/v1/batches``: jobs in the OpenAI dialect."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import ApiBlueprint
from app.api.job_ids import cursor_of, job_id_of
from app.db.repositories.jobs import JobFilters
from app.domain.jobs import Dialect, JobDetails, JobRequest
from app.domain.pages import Page
from app.errors import NotFound, QueueFull, StateConflict, StorageQuotaExceeded, TooManyAtOnce
from app.schemas.batches import BatchListQuerySchema, BatchListSchema, BatchRequestSchema, BatchSchema
from app.services.answer_once import Once
from app.services.cancel_job import cancel_job
from app.services.list_jobs import list_jobs
from app.services.show_job import show_job
from app.services.submit_job import submit_job

blueprint = ApiBlueprint("batches", url_prefix="/v1/batches", description="Jobs in the OpenAI dialect")


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(QueueFull, TooManyAtOnce, StorageQuotaExceeded)
@blueprint.arguments(
    BatchRequestSchema,
    example={
        "input_file_id": "file-0199a0c27d4e0123456789abcdef0123",
        "endpoint": "/v1/embeddings",
        "completion_window": "24h",
    },
)
@blueprint.creates(200, BatchSchema)
def post_batch(job: JobRequest, *, once: Once[JobDetails] | None) -> JobDetails:
    """Run a file of requests as a batch.

    Once this has answered, the batch is durable. Its lines are checked afterwards: a file with a bad line ends the
    batch as `failed`, with every bad line in `errors`.
    """
    return submit_job(wiring=context.wiring(), tenant_id=context.tenant_id(), request=job, once=once)


@blueprint.route("", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.arguments(BatchListQuerySchema, location="query")
@blueprint.response(200, BatchListSchema)
def get_batches(query: dict[str, Any]) -> Page[JobDetails]:
    """List batches, newest first."""
    return list_jobs(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        limit=query["limit"],
        after=cursor_of(query["after"]),
        filters=JobFilters(dialect=Dialect.OPENAI),
    )


@blueprint.route("/<batch_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, BatchSchema)
def get_batch(batch_id: str) -> JobDetails:
    """Show a batch."""
    return show_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(batch_id))


@blueprint.route("/<batch_id>/cancel", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, BatchSchema)
def post_batch_cancel(batch_id: str) -> JobDetails:
    """Cancel a batch.

    What has finished is kept. Cancelling twice is no error; cancelling a batch that has ended is.
    """
    return cancel_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(batch_id))
