"""Jobs as the OpenAI dialect shows them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, post_load, validate

from app.domain.ids import batch_id
from app.domain.jobs import Dialect, JobDetails, JobRequest
from app.domain.states import JobState
from app.schemas.fields import Metadata, RequestSchema, Text, UnixTime
from app.schemas.files import LONGEST_LIFE_S, SHORTEST_LIFE_S
from app.schemas.jobs import (
    DEFAULT_PAGE,
    MAX_JOBS_PAGE,
    WINDOW_DOC,
    LineProblemSchema,
    SteeringSchema,
    StrictInteger,
    validation_problems,
)

_EXAMPLE_ID = "batch_0199a0c27d4e0123456789abcdef0123"

_STATUS = {
    JobState.VALIDATING: "validating",
    JobState.QUEUED: "in_progress",
    JobState.RUNNING: "in_progress",
    JobState.HELD: "in_progress",
    JobState.PAUSED: "in_progress",
    JobState.FINALIZING: "finalizing",
    JobState.CANCELLING: "cancelling",
    JobState.CANCELLED: "cancelled",
    JobState.EXPIRED: "expired",
    JobState.SUCCEEDED: "completed",
    JobState.PARTIALLY_SUCCEEDED: "completed",
    JobState.FAILED: "completed",
}
STATUSES = (*dict.fromkeys(_STATUS.values()), "failed")


def status_of(details: JobDetails) -> str:
    """A job's state in the words of the OpenAI API, where ``failed`` means that the input was refused."""
    job = details.job
    return "failed" if job.state is JobState.FAILED and job.failure is not None else _STATUS[job.state]


class OutputExpirySchema(RequestSchema):
    """When the output files go."""

    anchor = Text(required=True, validate=validate.Equal("created_at"))
    seconds = StrictInteger(required=True, validate=validate.Range(min=SHORTEST_LIFE_S, max=LONGEST_LIFE_S))


class BatchSteeringSchema(SteeringSchema):
    """Fields of a native job. One that the batch has as well takes its place: the SDK's types allow only ``"24h"``."""

    completion_window = Text(metadata={"description": WINDOW_DOC})
    output_expires_after = StrictInteger(
        attribute="output_expires_after_s",
        validate=validate.Range(min=SHORTEST_LIFE_S, max=LONGEST_LIFE_S),
        metadata={"description": "Seconds"},
    )
    metadata = Metadata()


class BatchRequestSchema(RequestSchema):
    """A batch to run."""

    input_file_id = Text(required=True)
    endpoint = Text(required=True, metadata={"example": "/v1/embeddings"})
    completion_window = Text(required=True, metadata={"example": "24h"})
    metadata = Metadata(load_default=dict, allow_none=True)
    output_expires_after = fields.Nested(OutputExpirySchema, allow_none=True, load_default=None)
    nightshift = fields.Nested(
        BatchSteeringSchema,
        load_default=lambda: BatchSteeringSchema().load({}),
        metadata={"description": "Fields of a native job; the SDK sends them by `extra_body`"},
    )

    @post_load
    def make(self, data: dict[str, Any], **_kwargs: Any) -> JobRequest:
        """Make the request of what was loaded."""
        expiry, steering = data.pop("output_expires_after"), data.pop("nightshift")
        asked = {
            **data,
            "output_expires_after_s": expiry["seconds"] if expiry else None,
            "metadata": data["metadata"] or {},
        }
        return JobRequest(dialect=Dialect.OPENAI, **{**asked, **steering})


class RequestCountsSchema(Schema):
    """Requests by outcome."""

    total = fields.Integer(required=True)
    completed = fields.Integer(attribute="succeeded", required=True)
    failed = fields.Integer(required=True)


class BatchErrorsSchema(Schema):
    """The lines that refused the input."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(LineProblemSchema), required=True)


def _usage(details: JobDetails) -> dict[str, Any]:
    usage = details.usage
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


class BatchSchema(Schema):
    """A batch."""

    id = fields.Function(lambda details: batch_id(details.job.id), metadata={"type": "string", "example": _EXAMPLE_ID})
    object = fields.Constant("batch", metadata={"enum": ["batch"]})
    endpoint = fields.String(attribute="job.endpoint", required=True)
    model = fields.String(attribute="job.model", required=True, allow_none=True)
    # The SDK demands text; a job made natively from inline items has no input file.
    input_file_id = fields.Function(lambda details: details.job.input_file_id or "", metadata={"type": "string"})
    completion_window = fields.String(attribute="job.completion_window", required=True)
    status = fields.Function(status_of, metadata={"type": "string", "enum": list(STATUSES)})
    errors = fields.Nested(BatchErrorsSchema, required=True, allow_none=True)
    output_file_id = fields.String(attribute="job.output_file_id", required=True, allow_none=True)
    error_file_id = fields.String(attribute="job.error_file_id", required=True, allow_none=True)
    created_at = UnixTime(attribute="job.created_at", required=True)
    in_progress_at = UnixTime(attribute="job.queued_at", required=True, allow_none=True)
    expires_at = UnixTime(attribute="job.deadline_at", required=True, allow_none=True)
    finalizing_at = UnixTime(attribute="job.finalizing_at", required=True, allow_none=True)
    completed_at = UnixTime(required=True, allow_none=True)
    failed_at = UnixTime(required=True, allow_none=True)
    expired_at = UnixTime(required=True, allow_none=True)
    cancelling_at = UnixTime(attribute="job.cancelling_at", required=True, allow_none=True)
    cancelled_at = UnixTime(required=True, allow_none=True)
    request_counts = fields.Nested(RequestCountsSchema, attribute="counts", required=True)
    usage = fields.Function(_usage, metadata={"type": "object"})
    metadata = fields.Function(
        lambda details: details.job.metadata or None, metadata={"type": "object", "nullable": True}
    )

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what follows from the status: the errors, and the moment in which it came about."""
        if attr == "errors":
            return {"data": validation_problems(obj)} if status_of(obj) == "failed" else None
        if attr in _MOMENTS:
            return obj.job.finished_at if status_of(obj) == _MOMENTS[attr] else None
        return super().get_attribute(obj, attr, default)


_MOMENTS = {
    "completed_at": "completed",
    "failed_at": "failed",
    "expired_at": "expired",
    "cancelled_at": "cancelled",
}


class BatchListSchema(Schema):
    """A page of batches, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(BatchSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: batch_id(page.items[0].job.id) if page.items else None,
        metadata={"type": "string", "nullable": True},
    )
    last_id = fields.Function(
        lambda page: batch_id(page.items[-1].job.id) if page.items else None,
        metadata={"type": "string", "nullable": True},
    )


class BatchListQuerySchema(RequestSchema):
    """How to walk the list of batches."""

    after = Text(load_default=None, metadata={"description": "Id of the last batch of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_JOBS_PAGE))
