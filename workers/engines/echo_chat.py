"""The engine ``echo`` as a chat model: it says what was said last, up to ``max_tokens`` of four characters each."""

from __future__ import annotations

from typing import Any

import orjson

from app.domain.items import InputItem, ItemErrorCode, ItemOutcome, ItemSucceeded
from workers.engines.base import BadItem, invalid

CHARACTERS_PER_TOKEN = 4


def check_chat(body: dict[str, Any]) -> None:
    """Refuse what is no conversation.

    Raises:
        BadItem: naming the parameter.
    """
    if body.get("messages") is None:
        message = "'messages' is missing: give what was said so far"
        raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, message)
    if body.get("stream"):
        raise invalid("'stream' is for requests that somebody listens to; leave it out")
    _texts(body)
    _most_characters(body)


def answer_chat(item: InputItem) -> ItemOutcome:
    """A chat completion."""
    texts, most = _texts(item.body), _most_characters(item.body)
    answered = texts[-1][:most]
    n_input, n_output = sum(map(_n_tokens, texts)), _n_tokens(answered)
    body = {
        "id": f"chatcmpl-{item.index}",
        "object": "chat.completion",
        "created": 0,
        "model": item.body.get("model"),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answered},
                "finish_reason": "stop" if answered == texts[-1] else "length",
            }
        ],
        "usage": {"prompt_tokens": n_input, "completion_tokens": n_output, "total_tokens": n_input + n_output},
    }
    return ItemSucceeded(item.index, orjson.dumps(body), input_tokens=n_input, output_tokens=n_output)


def _texts(body: dict[str, Any]) -> list[str]:
    """What was said so far, message by message."""
    messages = body["messages"]
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise invalid("'messages' must be a list of at least one message")
    return [_text_of(message) for message in messages]


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise invalid("'content' of a message must be text or a list of parts")
    return "\n".join(str(part["text"]) for part in content if isinstance(part, dict) and "text" in part)


def _most_characters(body: dict[str, Any]) -> int | None:
    """None: as many as there are."""
    given = body.get("max_completion_tokens", body.get("max_tokens"))
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise invalid("'max_tokens' must be a whole number of at least 1")
    return given * CHARACTERS_PER_TOKEN


def _n_tokens(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)
