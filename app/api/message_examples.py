"""Examples of what the Anthropic dialect takes and gives: see ``app/api/examples.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from app.schemas import message_batches, messages

_ID = "msgbatch_0199a0c27d4e0123456789abcdef0123"
_REQUEST = {"model": "chat", "max_tokens": 256, "messages": [{"role": "user", "content": "Good evening"}]}
_MESSAGE: dict[str, Any] = {
    "id": "msg_0199a0c27d4e0123456789abcdef0123",
    "type": "message",
    "role": "assistant",
    "model": "chat",
    "content": [{"type": "text", "text": "Good evening to you."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {
        "input_tokens": 9,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": 6,
        "service_tier": "batch",
    },
}
_BATCH = {
    "id": _ID,
    "type": "message_batch",
    "processing_status": "ended",
    "request_counts": {"processing": 0, "succeeded": 98, "errored": 2, "canceled": 0, "expired": 0},
    "created_at": "2026-11-25T02:30:00Z",
    "expires_at": "2026-11-26T02:30:00Z",
    "ended_at": "2026-11-25T02:31:10.250000Z",
    "cancel_initiated_at": None,
    "archived_at": None,
    "results_url": f"https://nightshift.example.com/v1/messages/batches/{_ID}/results",
}

EXAMPLES: Mapping[type[Schema], Any] = {
    messages.MessageRequestSchema: _REQUEST,
    messages.MessageSchema: {**_MESSAGE, "usage": {**_MESSAGE["usage"], "service_tier": "standard"}},
    message_batches.MessageBatchRequestSchema: {"requests": [{"custom_id": "evening", "params": _REQUEST}]},
    message_batches.MessageBatchSchema: _BATCH,
    message_batches.MessageBatchListSchema: {"data": [_BATCH], "has_more": False, "first_id": _ID, "last_id": _ID},
    message_batches.MessageBatchDeletedSchema: {"id": _ID, "type": "message_batch_deleted"},
    message_batches.MessageBatchResultSchema: {
        "custom_id": "evening",
        "result": {"type": "succeeded", "message": _MESSAGE},
    },
}
