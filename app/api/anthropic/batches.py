"""``/v1/messages/batches``: jobs in the Anthropic dialect."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from app.api import context
from app.api.anthropic.blueprint import AnthropicBlueprint, api_version
from app.api.anthropic.message_batch_body import ArrivingBatch
from app.api.job_ids import cursor_of, job_id_of
from app.api.streaming import stream
from app.domain.message_batches import MessageBatch
from app.domain.pages import Page
from app.errors import (
    InvalidJson,
    NotFound,
    QueueFull,
    RequestTooLarge,
    StateConflict,
    StorageQuotaExceeded,
    StorageUnavailable,
    TooManyAtOnce,
    UnknownParameter,
)
from app.schemas.message_batches import (
    MessageBatchDeletedSchema,
    MessageBatchListQuerySchema,
    MessageBatchListSchema,
    MessageBatchRequestSchema,
    MessageBatchResultSchema,
    MessageBatchSchema,
)
from app.services.answer_once import Once
from app.services.cancel_message_batch import cancel_message_batch
from app.services.delete_message_batch import delete_message_batch
from app.services.list_message_batches import list_message_batches
from app.services.read_message_results import read_message_results
from app.services.show_message_batch import show_message_batch
from app.services.submit_message_batch import submit_message_batch

blueprint = AnthropicBlueprint(
    "message_batches", url_prefix="/v1/messages/batches", description="Jobs in the Anthropic dialect"
)

JSONL = "application/x-jsonl"
_EXAMPLE = {
    "requests": [
        {
            "custom_id": "first",
            "params": {
                "model": "chat",
                "max_tokens": 256,
                "messages": [{"role": "user", "content": "Good evening"}],
            },
        }
    ]
}
_BODY_DOC = {
    "required": True,
    "content": {"application/json": {"schema": MessageBatchRequestSchema, "example": _EXAMPLE}},
}


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.doc(requestBody=_BODY_DOC)
@blueprint.refuses(
    InvalidJson, UnknownParameter, RequestTooLarge, QueueFull, TooManyAtOnce, StorageQuotaExceeded, StorageUnavailable
)
@blueprint.creates(200, MessageBatchSchema, streamed=True)
def post_message_batch(*, once: Once[MessageBatch] | None) -> MessageBatch:
    """Run requests for messages as a batch.

    The body is stored as it arrives: up to 100,000 requests and 256 MB. Once this has answered, the batch is durable.
    Wrong `params` do not refuse the batch: that request ends as `errored`. The requests of a batch name one model.
    """
    wiring = context.wiring()
    # One byte beyond the limit may come, so that a body that does not announce its length is known to be too long.
    request.max_content_length = wiring.settings.max_message_batch_bytes + 1
    body = ArrivingBatch(request, api_version())
    return submit_message_batch(wiring=wiring, tenant_id=context.tenant_id(), body=body, once=once)


@blueprint.route("", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.arguments(MessageBatchListQuerySchema, location="query")
@blueprint.response(200, MessageBatchListSchema)
def get_message_batches(query: dict[str, Any]) -> Page[MessageBatch]:
    """List batches, newest first."""
    return list_message_batches(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        limit=query["limit"],
        after=cursor_of(query["after_id"], param="after_id"),
        before=cursor_of(query["before_id"], param="before_id"),
    )


@blueprint.route("/<message_batch_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, MessageBatchSchema)
def get_message_batch(message_batch_id: str) -> MessageBatch:
    """Show a batch.

    A batch of chat completions that was made in another dialect is shown as well.
    """
    return show_message_batch(
        wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(message_batch_id)
    )


@blueprint.route("/<message_batch_id>/cancel", methods=["POST"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, MessageBatchSchema)
def post_message_batch_cancel(message_batch_id: str) -> MessageBatch:
    """Cancel a batch.

    What has finished is kept. Cancelling twice is no error; cancelling a batch that has ended is.
    """
    return cancel_message_batch(
        wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(message_batch_id)
    )


@blueprint.route("/<message_batch_id>", methods=["DELETE"])
@blueprint.refuses(NotFound, StateConflict)
@blueprint.response(200, MessageBatchDeletedSchema)
def remove_message_batch(message_batch_id: str) -> dict[str, str]:
    """Delete a batch that has ended.

    It is gone in every dialect, with its results.
    """
    own_id = delete_message_batch(
        wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(message_batch_id)
    )
    return {"id": own_id}


@blueprint.route("/<message_batch_id>/results", methods=["GET"])
@blueprint.refuses(NotFound, StateConflict, StorageUnavailable)
@blueprint.response(200, MessageBatchResultSchema, content_type=JSONL)
def get_message_batch_results(message_batch_id: str) -> Response:
    """Read the results of a batch that has ended.

    One JSON object a line, in no certain order; `custom_id` tells which request it answers.
    """
    blocks = read_message_results(
        wiring=context.wiring(), tenant_id=context.tenant_id(), job_id=job_id_of(message_batch_id)
    )
    return stream(blocks, mimetype=JSONL)
