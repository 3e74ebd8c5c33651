"""An answer of a chat engine, an OpenAI chat completion, as the Message of the Anthropic dialect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from app.domain.ids import new_suffix

_STOP_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def new_message_id() -> str:
    """The id of a message that is answered at once."""
    return f"msg_{new_suffix()}"


def message_of(completion: Mapping[str, Any], *, message_id: str, service_tier: str) -> dict[str, Any]:
    """Translate an answer; whatever a server left out of it is left out, never invented.

    Args:
        service_tier: ``batch`` or ``standard``.
    """
    choice = _first(completion.get("choices"))
    content = list(_blocks(_object(choice.get("message"))))
    stop_reason, stop_sequence = _stop(choice, content)
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": completion.get("model"),
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": {**_usage(_object(completion.get("usage"))), "service_tier": service_tier},
    }


def _stop(choice: Mapping[str, Any], content: list[dict[str, Any]]) -> tuple[str, str | None]:
    """Why the model stopped, and at which of the client's sequences; servers that tell it do so in ``stop_reason``."""
    if any(block["type"] == "tool_use" for block in content):
        return "tool_use", None
    finish, sequence = choice.get("finish_reason"), choice.get("stop_reason")
    if finish == "stop" and isinstance(sequence, str):
        return "stop_sequence", sequence
    return _STOP_REASONS.get(finish, "end_turn") if isinstance(finish, str) else "end_turn", None


def _blocks(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str) and thinking:
        yield {"type": "thinking", "thinking": thinking, "signature": ""}
    text = message.get("content") or message.get("refusal")
    if isinstance(text, str) and text:
        yield {"type": "text", "text": text, "citations": None}
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        yield _tool_use(_object(call))


def _tool_use(call: Mapping[str, Any]) -> dict[str, Any]:
    function = _object(call.get("function"))
    return {
        "type": "tool_use",
        "id": str(call.get("id") or f"toolu_{new_suffix()}"),
        "name": str(function.get("name") or ""),
        "input": _arguments(function.get("arguments")),
    }


def _arguments(text: Any) -> dict[str, Any]:
    """A model writes them and may write anything: what is no JSON object is handed over as it is."""
    try:
        parsed = orjson.loads(text) if isinstance(text, str) and text else {}
    except orjson.JSONDecodeError:
        parsed = None
    return parsed if isinstance(parsed, dict) else {"arguments": text}


def _usage(usage: Mapping[str, Any]) -> dict[str, int]:
    """Tokens read from a server's cache are counted apart, as this dialect has it."""
    total, output = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cached = min(total, _count(_object(usage.get("prompt_tokens_details")).get("cached_tokens")))
    return {
        "input_tokens": total - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    }


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first(value: Any) -> Mapping[str, Any]:
    return _object(value[0]) if isinstance(value, list) and value else {}
