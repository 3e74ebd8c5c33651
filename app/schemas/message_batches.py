"""Jobs as the Anthropic dialect shows them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from app.domain.ids import message_batch_id
from app.domain.jobs import Counts
from app.domain.message_batches import MessageBatch
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.schemas.batches import BatchSteeringSchema
from app.schemas.fields import RequestSchema, Text, Timestamp
from app.schemas.jobs import DEFAULT_PAGE
from app.schemas.messages import MessageSchema

MAX_BATCHES_PAGE = 1_000
_EXAMPLE_ID = "msgbatch_0199a0c27d4e0123456789abcdef0123"
STATUSES = ("in_progress", "canceling", "ended")


class MessageBatchOptionsSchema(RequestSchema):
    """What the body of a new batch may hold beside ``requests``."""

    nightshift = fields.Nested(
        BatchSteeringSchema,
        load_default=lambda: BatchSteeringSchema().load({}),
        metadata={"description": "Fields of a native job; the SDK sends them by `extra_body`"},
    )


class RequestedMessageSchema(RequestSchema):
    """One request of a batch; for the documentation, the body is read as it arrives."""

    custom_id = Text(required=True, validate=validate.Regexp(r"^[a-zA-Z0-9_-]{1,64}$"))
    params = fields.Raw(
        required=True,
        metadata={"description": "As the body of `POST /v1/messages`; where it is wrong the request ends as `errored`"},
    )


class MessageBatchRequestSchema(MessageBatchOptionsSchema):
    """A batch to run."""

    requests = fields.List(fields.Nested(RequestedMessageSchema), required=True, validate=validate.Length(min=1))


class MessageCountsSchema(Schema):
    """Requests by outcome; they always sum to the whole batch."""

    processing = fields.Integer(required=True)
    succeeded = fields.Integer(required=True)
    errored = fields.Integer(attribute="failed", required=True)
    canceled = fields.Integer(attribute="cancelled", required=True)
    expired = fields.Integer(required=True)

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what is a sum."""
        return _processing(obj) if attr == "processing" else super().get_attribute(obj, attr, default)


def _processing(counts: Counts) -> int:
    return counts.total - counts.finished


def processing_status_of(batch: MessageBatch) -> str:
    """A job's state in the words of the Anthropic API."""
    state = batch.details.job.state
    if state in TERMINAL_JOB_STATES:
        return "ended"
    return "canceling" if state is JobState.CANCELLING else "in_progress"


class MessageBatchSchema(Schema):
    """A batch of messages."""

    id = fields.Function(
        lambda batch: message_batch_id(batch.details.job.id), metadata={"type": "string", "example": _EXAMPLE_ID}
    )
    type = fields.Constant("message_batch", metadata={"enum": ["message_batch"]})
    processing_status = fields.Function(processing_status_of, metadata={"type": "string", "enum": list(STATUSES)})
    request_counts = fields.Nested(MessageCountsSchema, attribute="details.counts", required=True)
    created_at = Timestamp(attribute="details.job.created_at", required=True)
    expires_at = Timestamp(attribute="details.job.deadline_at", required=True)
    ended_at = Timestamp(attribute="details.job.finished_at", required=True, allow_none=True)
    cancel_initiated_at = Timestamp(attribute="details.job.cancelling_at", required=True, allow_none=True)
    archived_at = Timestamp(required=True, allow_none=True)
    results_url = fields.String(
        required=True, allow_none=True, metadata={"description": "Where the results are, once the batch has ended"}
    )

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find when the results came to the end of their life, where they have."""
        if attr == "archived_at":
            return obj.details.job.results_expire_at if obj.is_archived else None
        return super().get_attribute(obj, attr, default)


class MessageBatchListSchema(Schema):
    """A page of batches, newest first."""

    data = fields.List(fields.Nested(MessageBatchSchema), attribute="items", required=True)
    has_more = fields.Boolean(
        required=True, metadata={"description": "Whether more follow in the direction that was asked for"}
    )
    first_id = fields.Function(
        lambda page: message_batch_id(page.items[0].details.job.id) if page.items else None,
        metadata={"type": "string", "nullable": True},
    )
    last_id = fields.Function(
        lambda page: message_batch_id(page.items[-1].details.job.id) if page.items else None,
        metadata={"type": "string", "nullable": True},
    )


class MessageBatchListQuerySchema(RequestSchema):
    """How to walk the list of batches."""

    after_id = Text(load_default=None, metadata={"description": "Batches right behind this one"})
    before_id = Text(load_default=None, metadata={"description": "Batches right before this one"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_BATCHES_PAGE))
    beta = Text(load_default=None, metadata={"description": "What the SDK's `client.beta` sends; it changes nothing"})

    @validates_schema
    def check(self, data: dict[str, Any], **_kwargs: Any) -> None:
        """Refuse two directions at once.

        Raises:
            ValidationError: both cursors are given.
        """
        if data["after_id"] is not None and data["before_id"] is not None:
            raise ValidationError("Only one of 'after_id' and 'before_id' may be given.", "before_id")


class MessageBatchDeletedSchema(Schema):
    """A batch that was deleted."""

    id = fields.String(required=True)
    type = fields.Constant("message_batch_deleted", metadata={"enum": ["message_batch_deleted"]})


class MessageOutcomeSchema(Schema):
    """What a request came to."""

    type = fields.String(required=True, metadata={"enum": ["succeeded", "errored", "canceled", "expired"]})
    message = fields.Nested(MessageSchema, metadata={"description": "Of one that succeeded"})
    error = fields.Dict(metadata={"description": "Of one that errored, in the shape of every error of this dialect"})


class MessageBatchResultSchema(Schema):
    """The result of one request; for the documentation, lines are made as they are read."""

    custom_id = fields.String(required=True)
    result = fields.Nested(MessageOutcomeSchema, required=True)
