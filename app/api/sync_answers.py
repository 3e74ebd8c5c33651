"""What the routes that answer at once share."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.api import context, held_slots
from app.errors import (
    BrokerUnavailable,
    ContextLengthExceeded,
    DependencyFailed,
    EngineFailed,
    ModelNotFound,
    NoWorkerForModel,
    SyncTimedOut,
    TooManyAtOnce,
)
from app.services.answer_sync import answer_sync

REFUSALS = (
    ContextLengthExceeded,
    ModelNotFound,
    NoWorkerForModel,
    BrokerUnavailable,
    DependencyFailed,
    SyncTimedOut,
    EngineFailed,
    TooManyAtOnce,
)
"""How such a route can refuse."""


def answered(endpoint: str, body: dict[str, Any]) -> Response:
    """The answer of a worker, as it wrote it.

    Args:
        body: a request in the shape of the endpoint, as it would stand in a line of a batch.
    """
    own = context.context()
    with held_slots.take(context.tenant_id(), held_slots.MODEL):
        answer = answer_sync(wiring=own.wiring, lane=own.sync_lane, endpoint=endpoint, body=body)
    return Response(answer, mimetype="application/json")
