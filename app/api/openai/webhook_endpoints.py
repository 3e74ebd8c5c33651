"""``/v1/webhook_endpoints``: whom to tell what became of jobs, as in the OpenAI API."""

from __future__ import annotations

from typing import Any

from app.api import context, held_slots
from app.api.blueprints import ApiBlueprint
from app.domain.pages import Page
from app.domain.webhooks import EVENT_TYPES, EndpointWithSecret, SampleAnswer, WebhookEndpoint
from app.errors import NotFound, ReceiverRefused, ReceiverUnreachable, TooManyAtOnce
from app.schemas.webhooks import (
    RotateSecretSchema,
    SampleAnswerSchema,
    SampleRequestSchema,
    WebhookEndpointDeletedSchema,
    WebhookEndpointListQuerySchema,
    WebhookEndpointListSchema,
    WebhookEndpointPatchSchema,
    WebhookEndpointRequestSchema,
    WebhookEndpointSchema,
    WebhookEndpointWithSecretSchema,
    WebhookEventTypesSchema,
)
from app.services.answer_once import Once
from app.services.change_webhook_endpoint import change_webhook_endpoint
from app.services.create_webhook_endpoint import create_webhook_endpoint
from app.services.delete_webhook_endpoint import delete_webhook_endpoint
from app.services.list_webhook_endpoints import list_webhook_endpoints
from app.services.rotate_webhook_secret import rotate_webhook_secret
from app.services.send_sample_webhook import send_sample_webhook
from app.services.show_webhook_endpoint import show_webhook_endpoint

blueprint = ApiBlueprint(
    "webhook_endpoints", url_prefix="/v1/webhook_endpoints", description="Who is told what became of jobs"
)
event_types_blueprint = ApiBlueprint(
    "webhook_event_types", url_prefix="/v1/webhook_event_types", description="What can be told"
)


@blueprint.route("", methods=["POST"])
@blueprint.rate_limited
@blueprint.arguments(
    WebhookEndpointRequestSchema,
    example={
        "name": "nightly",
        "url": "https://hooks.example.com/jobs",
        "event_types": ["job.succeeded", "job.failed", "batch.completed"],
    },
)
@blueprint.refuses(ReceiverRefused, TooManyAtOnce)
@blueprint.creates(200, WebhookEndpointWithSecretSchema)
def post_endpoint(body: dict[str, Any], *, once: Once[EndpointWithSecret] | None) -> EndpointWithSecret:
    """Register a receiver of webhooks.

    It is told of every job of this tenant from now on. What it is sent follows Standard Webhooks; the secret that it is
    signed with is shown in this answer only.
    """
    return create_webhook_endpoint(wiring=context.wiring(), tenant_id=context.tenant_id(), once=once, **body)


@blueprint.route("", methods=["GET"])
@blueprint.arguments(WebhookEndpointListQuerySchema, location="query")
@blueprint.refuses(NotFound)
@blueprint.response(200, WebhookEndpointListSchema)
def get_endpoints(query: dict[str, Any]) -> Page[WebhookEndpoint]:
    """List receivers of webhooks, newest first."""
    return list_webhook_endpoints(wiring=context.wiring(), tenant_id=context.tenant_id(), **query)


@blueprint.route("/<endpoint_id>", methods=["GET"])
@blueprint.refuses(NotFound)
@blueprint.response(200, WebhookEndpointSchema)
def get_endpoint(endpoint_id: str) -> WebhookEndpoint:
    """Show a receiver of webhooks."""
    return show_webhook_endpoint(wiring=context.wiring(), tenant_id=context.tenant_id(), endpoint_id=endpoint_id)


@blueprint.route("/<endpoint_id>", methods=["POST"])
@blueprint.rate_limited
@blueprint.arguments(WebhookEndpointPatchSchema, example={"event_types": ["job.failed"]})
@blueprint.refuses(NotFound, ReceiverRefused, TooManyAtOnce)
@blueprint.response(200, WebhookEndpointSchema)
def post_endpoint_change(body: dict[str, Any], endpoint_id: str) -> WebhookEndpoint:
    """Change a receiver of webhooks.

    What it is still to be told goes to its new address.
    """
    return change_webhook_endpoint(
        wiring=context.wiring(), tenant_id=context.tenant_id(), endpoint_id=endpoint_id, changes=body
    )


@blueprint.route("/<endpoint_id>", methods=["DELETE"])
@blueprint.refuses(NotFound)
@blueprint.response(200, WebhookEndpointDeletedSchema)
def delete_endpoint(endpoint_id: str) -> dict[str, str]:
    """Delete a receiver of webhooks.

    What it was still to be told is dropped.
    """
    delete_webhook_endpoint(wiring=context.wiring(), tenant_id=context.tenant_id(), endpoint_id=endpoint_id)
    return {"id": endpoint_id}


@blueprint.route("/<endpoint_id>/rotate_secret", methods=["POST"])
@blueprint.arguments(RotateSecretSchema, required=False, example={"keep_old_secret_active_for_24_hours": True})
@blueprint.refuses(NotFound)
@blueprint.creates(200, WebhookEndpointWithSecretSchema)
def post_rotation(
    body: dict[str, Any], endpoint_id: str, *, once: Once[EndpointWithSecret] | None
) -> EndpointWithSecret:
    """Replace the secret of a receiver.

    Without `keep_old_secret_active_for_24_hours` nothing is signed with the old one any more. The body may be left out.
    """
    return rotate_webhook_secret(
        wiring=context.wiring(),
        tenant_id=context.tenant_id(),
        endpoint_id=endpoint_id,
        keep_old=body["keep_old_secret_active_for_24_hours"],
        once=once,
    )


@blueprint.route("/<endpoint_id>/test", methods=["POST"])
@blueprint.rate_limited
@blueprint.arguments(SampleRequestSchema, example={"event_type": "batch.completed"})
@blueprint.refuses(NotFound, ReceiverUnreachable, TooManyAtOnce)
@blueprint.response(200, SampleAnswerSchema)
def post_test(body: dict[str, Any], endpoint_id: str) -> SampleAnswer:
    """Send a receiver a sample event.

    Once, signed as a real one; about a job that does not exist.
    """
    tenant_id = context.tenant_id()
    with held_slots.take(tenant_id, held_slots.RECEIVER):
        return send_sample_webhook(
            wiring=context.wiring(), tenant_id=tenant_id, endpoint_id=endpoint_id, event_type=body["event_type"]
        )


@event_types_blueprint.route("", methods=["GET"])
@event_types_blueprint.response(200, WebhookEventTypesSchema)
def get_event_types() -> dict[str, Any]:
    """List the events that can be told."""
    return {"data": EVENT_TYPES}
