"""``/v1/jobs``: submit, show, list, change, pause, resume, cancel, retry."""

from __future__ import annotations

from typing import Any

from app.api import context
from app.api.blueprints import ApiBlueprint, Shown
from app.api.job_ids import cursor_of, job_id_of
from app.db.repositories.jobs import JobFilters
from app.domain.groups import GroupDetails
from app.domain.jobs import JobDetails, JobRequest
from app.domain.pages import Page
from app.errors import (
    Gone,
    NotFound,
    NothingToRetry,
    QueueFull,
    StateConflict,
    StorageQuotaExceeded,
    StorageUnavailable,
    TooManyAtOnce,
)
from app.schemas.groups import GroupSchema
from app.schemas.jobs import JobListQuerySchema, JobListSchema, JobPatchSchema, JobRequestSchema, JobSchema
from app.schemas.retries import RetryRequestSchema
from app.services.answer_once import Once
from app.services.cancel_job import cancel_job
from app.services.list_jobs import list_jobs
from app.services.pause_job import pause_job
from app.services.resume_job import resume_job
from app.services.retry_job import retry_job
from app.services.show_job import show_job
from app.services.submit_job_or_group import submit_job_or_group
from app.services.update_job import update_job

blueprint = ApiBlueprint("jobs", url_prefix="/v1/jobs", description="Jobs, whichever dialect made them")


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.refuses(QueueFull, TooManyAtOnce, StorageQuotaExceeded, StorageUnavailable)
@blueprint.arguments(
    JobRequestSchema,
    example={
        "endpoint": "/v1/embeddings",
        "model": "all-MiniLM-L6-v2",
        "inputs": ["first text", {"custom_id": "second", "body": {"input": "second text"}}],
    },
)
@blueprint.creates_one_of(
    202,
    {
        JobDetails: Shown(JobSchema, "/v1/jobs/{id}"),
        GroupDetails: Shown(GroupSchema, "/v1/groups/{id}"),
    },
)
def post_job(job: JobRequest, *, once: Once[JobDetails | GroupDetails] | None) -> JobDetails | GroupDetails:
    """Run a job.

    Once this has answered, the job is durable: it needs neither broker nor workers at this moment. A file with more
    lines or bytes than one job takes becomes a group of jobs.
    """
    return submit_job_or_group(wiring=context.wiring(), tenant_id=context.tenant_id(), request=job, once=once)


@blueprint.route("", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.arguments(JobListQuerySchema, location="query")
@blueprint.response(200, JobListSchema)
def get_jobs(query: dict[str, Any]) -> Page[JobDetails]:
    """List jobs, newest first."""
    return list_jobs(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        limit=query.pop("limit"),
        after=cursor_of(query.pop("after")),
        filters=JobFilters(**query),
    )


@blueprint.route("/<job_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, JobSchema)
def get_job(job_id: str) -> JobDetails:
    """Show a job.

    The id of a batch is accepted as well.
    """
    return show_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id))


@blueprint.route("/<job_id>", methods=["PATCH"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.arguments(JobPatchSchema, example={"priority": "urgent", "completion_window": "2h"})
@blueprint.response(200, JobSchema)
def patch_job(body: dict[str, Any], job_id: str) -> JobDetails:
    """Change a job's priority, window or metadata while it lives.

    The next decision about who runs follows it. A window counts from the job's creation, or its last retry: one that
    has passed by now is refused.
    """
    return update_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id), changes=body)


@blueprint.route("/<job_id>/cancel", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, JobSchema)
def post_job_cancel(job_id: str) -> JobDetails:
    """Cancel a job.

    What has finished is kept. Cancelling twice is no error; cancelling a job that has ended is.
    """
    return cancel_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id))


@blueprint.route("/<job_id>/retry", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict, NothingToRetry, Gone, QueueFull, StorageQuotaExceeded)
@blueprint.arguments(RetryRequestSchema, required=False, example={"include": ["failed", "expired"]})
@blueprint.creates(202, JobSchema, location="/v1/jobs/{id}")
def post_job_retry(body: dict[str, Any], job_id: str, *, once: Once[JobDetails] | None) -> JobDetails:
    """Retry a job.

    Only the items that ended so run again, in the same job and with a whole completion window before them; they are
    pending until they have their new outcome, which takes the place of the old one. What succeeded stands. The body may
    be left out.
    """
    return retry_job(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        job_id=job_id_of(job_id),
        include=body["include"],
        once=once,
    )


@blueprint.route("/<job_id>/pause", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, JobSchema)
def post_job_pause(job_id: str) -> JobDetails:
    """Pause a job.

    Nothing of it starts any more; what runs stops as soon as the engine can, and what has finished is kept. Its
    completion window runs on. Pausing twice is no error; pausing a job that has ended is.
    """
    return pause_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id))


@blueprint.route("/<job_id>/resume", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, JobSchema)
def post_job_resume(job_id: str) -> JobDetails:
    """Resume a paused job.

    Resuming a job that was not paused is no error; resuming one that has ended is.
    """
    return resume_job(wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(job_id))
