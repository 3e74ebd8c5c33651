"""Receivers of webhooks, as the OpenAI API shows them, and what was sent to them."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load, validate

from app.domain.webhooks import EVENT_TYPES, DeliveryState
from app.errors import MissingParameter
from app.schemas.fields import Flag, OptionalBodySchema, RequestSchema, Text, Timestamp, UnixTime
from app.schemas.jobs import URL_DOC, check_distinct

MAX_NAME_CHARS = 256
MAX_PAGE = 100
DEFAULT_PAGE = 20
_EXAMPLE_ID = "whe_0199a0c27d4e0123456789abcdef0123"


def _check_name(name: str) -> None:
    if not name.strip():
        raise ValidationError("This must not be blank.")


class WebhookEndpointRequestSchema(RequestSchema):
    """A receiver to register."""

    name = Text(required=True, validate=[validate.Length(min=1, max=MAX_NAME_CHARS), _check_name])
    url = Text(required=True, metadata={"description": URL_DOC, "example": "https://hooks.example.com/jobs"})
    event_types = fields.List(
        fields.String(validate=validate.OneOf(EVENT_TYPES)),
        required=True,
        validate=[validate.Length(min=1, max=len(EVENT_TYPES)), check_distinct],
    )


class WebhookEndpointPatchSchema(WebhookEndpointRequestSchema):
    """What may be changed, at least one; fields that are absent stay."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "partial": True})

    @post_load
    def check(self, data: dict[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Refuse a change of nothing.

        Raises:
            MissingParameter: no field is given.
        """
        if not data:
            names = ", ".join(f"'{name}'" for name in self.fields)
            raise MissingParameter(f"at least one of {names} is required", param="name")
        return data


class RotateSecretSchema(OptionalBodySchema):
    """How a secret is replaced."""

    keep_old_secret_active_for_24_hours = Flag(
        load_default=False, metadata={"description": "Sign with the secret before as well for a day"}
    )


class SampleRequestSchema(RequestSchema):
    """What to send as a sample."""

    event_type = fields.String(required=True, validate=validate.OneOf(EVENT_TYPES))


class WebhookEndpointSchema(Schema):
    """A receiver of webhooks."""

    id = fields.String(required=True, metadata={"example": _EXAMPLE_ID})
    object = fields.Constant("webhook_endpoint", metadata={"enum": ["webhook_endpoint"]})
    name = fields.String(required=True)
    url = fields.String(required=True)
    event_types = fields.List(fields.String(), required=True)
    signing_secret_hint = fields.String(attribute="secret_hint", required=True)
    created_at = UnixTime(required=True)
    updated_at = UnixTime(required=True)


class WebhookEndpointWithSecretSchema(WebhookEndpointSchema):
    """A receiver of webhooks and its secret, which is shown in this answer only."""

    signing_secret = fields.String(required=True, metadata={"example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})

    def get_attribute(self, obj: Any, attr: str, default: Any) -> Any:
        """Find what belongs to the endpoint; the secret stands beside it."""
        return obj.secret if attr == "signing_secret" else super().get_attribute(obj.endpoint, attr, default)


class WebhookEndpointListSchema(Schema):
    """A page of receivers, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(WebhookEndpointSchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class WebhookEndpointListQuerySchema(RequestSchema):
    """How to walk the list of receivers."""

    after = Text(load_default=None, metadata={"description": "Id of the last endpoint of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE))


class WebhookEndpointDeletedSchema(Schema):
    """The answer to a deletion."""

    id = fields.String(required=True)
    object = fields.Constant("webhook_endpoint.deleted", metadata={"enum": ["webhook_endpoint.deleted"]})
    deleted = fields.Constant(True)


class SampleAnswerSchema(Schema):
    """What a receiver answered to a sample."""

    object = fields.Constant("webhook_endpoint.test", metadata={"enum": ["webhook_endpoint.test"]})
    webhook_endpoint_id = fields.String(attribute="endpoint_id", required=True)
    event_type = fields.String(required=True)
    status_code = fields.Integer(attribute="status", required=True)
    success = fields.Constant(True, metadata={"description": "There was an answer; `status_code` tells which"})


class WebhookEventTypesSchema(Schema):
    """The events that can be told."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.String(), required=True)


class AttemptSchema(Schema):
    """What came of sending once."""

    at = fields.String(required=True, metadata={"format": "date-time"})
    status = fields.Integer(required=True, allow_none=True, metadata={"description": "Null where no answer came"})
    error = fields.String(required=True, allow_none=True, metadata={"description": "Null where an answer came"})
    duration_s = fields.Float(required=True)


class DeliverySchema(Schema):
    """One event for one receiver, and what became of it."""

    id = fields.String(required=True)
    object = fields.Constant("webhook_delivery", metadata={"enum": ["webhook_delivery"]})
    event_id = fields.String(required=True, metadata={"description": "The header `webhook-id`"})
    event_type = fields.String(required=True)
    job_id = fields.String(required=True)
    endpoint_id = fields.String(required=True, allow_none=True, metadata={"description": "Null where the job named it"})
    url = fields.String(required=True)
    state = fields.String(required=True, metadata={"enum": [state.value for state in DeliveryState]})
    attempts = fields.List(fields.Nested(AttemptSchema), required=True)
    next_attempt_at = fields.Function(
        lambda delivery: (
            Timestamp().serialize("next_attempt_at", delivery) if delivery.state is DeliveryState.PENDING else None
        ),
        metadata={"type": "string", "format": "date-time", "nullable": True},
    )
    created_at = Timestamp(required=True)
    ended_at = Timestamp(required=True, allow_none=True)


class DeliveryListSchema(Schema):
    """A page of deliveries, newest first."""

    object = fields.Constant("list", metadata={"enum": ["list"]})
    data = fields.List(fields.Nested(DeliverySchema), attribute="items", required=True)
    has_more = fields.Boolean(required=True)
    first_id = fields.Function(
        lambda page: page.items[0].id if page.items else None, metadata={"type": "string", "nullable": True}
    )
    last_id = fields.Function(
        lambda page: page.items[-1].id if page.items else None, metadata={"type": "string", "nullable": True}
    )


class DeliveryListQuerySchema(RequestSchema):
    """How to walk and narrow the list of deliveries."""

    after = Text(load_default=None, metadata={"description": "Id of the last delivery of the page before"})
    limit = fields.Integer(load_default=DEFAULT_PAGE, validate=validate.Range(min=1, max=MAX_PAGE))
    job_id = Text(load_default=None)
    endpoint_id = Text(load_default=None)
    state = fields.Enum(DeliveryState, by_value=True, load_default=None)
