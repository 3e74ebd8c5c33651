"""Answer one message while the client waits."""

from __future__ import annotations

from typing import Any

import orjson

from app.domain.message_batches import CHAT_ENDPOINT
from app.domain.message_params import ApiVersion, chat_request
from app.domain.messages import message_of, new_message_id
from app.ports import SyncLane
from app.services.answer_sync import answer_sync
from app.wiring import Wiring


def answer_message(*, wiring: Wiring, lane: SyncLane, params: dict[str, Any], version: ApiVersion) -> dict[str, Any]:
    """Have a live worker answer the parameters of a message; gives the Message.

    Raises:
        MissingParameter, InvalidRequest, ModelNotFound, ContextLengthExceeded, NoWorkerForModel, SyncTimedOut,
            BrokerUnavailable, EngineFailed: see ``answer_sync``.
    """
    body = chat_request(params, version=version)
    completion = orjson.loads(answer_sync(wiring=wiring, lane=lane, endpoint=CHAT_ENDPOINT, body=body))
    return message_of(completion, message_id=new_message_id(), service_tier="standard")
