"""Examples of receivers of webhooks and what was sent to them: see ``app/api/examples.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from app.domain.webhooks import EVENT_TYPES
from app.schemas import webhooks

_ID, _DELIVERY_ID = "whe_0199a0c27d4e0123456789abcdef0123", "whd_0199a0c27d4e0123456789abcdef0123"
_URL, _EVENT = "https://hooks.example.com/jobs", "job.succeeded"
_ASKED = {"name": "nightly run", "url": _URL, "event_types": [_EVENT, "job.failed"]}
_ENDPOINT = {
    "id": _ID,
    "object": "webhook_endpoint",
    **_ASKED,
    "signing_secret_hint": "whsec_...LaSw",
    "created_at": 1_795_573_800,
    "updated_at": 1_795_573_800,
}
_WITH_SECRET = {**_ENDPOINT, "signing_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
_DELIVERY = {
    "id": _DELIVERY_ID,
    "object": "webhook_delivery",
    "event_id": "evt_0199a0c27d4e0123456789abcdef0123",
    "event_type": _EVENT,
    "job_id": "job_0199a0c27d4e0123456789abcdef0123",
    "endpoint_id": _ID,
    "url": _URL,
    "state": "delivered",
    "attempts": [{"at": "2026-11-25T02:31:10.400000Z", "status": 200, "error": None, "duration_s": 0.12}],
    "next_attempt_at": None,
    "created_at": "2026-11-25T02:31:10.250000Z",
    "ended_at": "2026-11-25T02:31:10.520000Z",
}

EXAMPLES: Mapping[type[Schema], Any] = {
    webhooks.WebhookEndpointRequestSchema: _ASKED,
    webhooks.WebhookEndpointPatchSchema: {"event_types": [_EVENT]},
    webhooks.RotateSecretSchema: {"keep_old_secret_active_for_24_hours": True},
    webhooks.SampleRequestSchema: {"event_type": _EVENT},
    webhooks.WebhookEndpointSchema: _ENDPOINT,
    webhooks.WebhookEndpointWithSecretSchema: _WITH_SECRET,
    webhooks.WebhookEndpointListSchema: {
        "object": "list",
        "data": [_ENDPOINT],
        "has_more": False,
        "first_id": _ID,
        "last_id": _ID,
    },
    webhooks.WebhookEndpointDeletedSchema: {"id": _ID, "object": "webhook_endpoint.deleted", "deleted": True},
    webhooks.SampleAnswerSchema: {
        "object": "webhook_endpoint.test",
        "webhook_endpoint_id": _ID,
        "event_type": _EVENT,
        "status_code": 200,
        "success": True,
    },
    webhooks.WebhookEventTypesSchema: {"object": "list", "data": list(EVENT_TYPES)},
    webhooks.DeliverySchema: _DELIVERY,
    webhooks.DeliveryListSchema: {
        "object": "list",
        "data": [_DELIVERY],
        "has_more": False,
        "first_id": _DELIVERY_ID,
        "last_id": _DELIVERY_ID,
    },
}
