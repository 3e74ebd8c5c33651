"""What a server's reply means for the item that was asked for, and for the server's other requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from app.domain.items import ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from workers.engines.upstream_server import Reply

LONGEST_SAYING = 500
_REFUSES_US = frozenset({401, 403})
_TOOK_TOO_LONG = frozenset({408, 504})
_CODES = {404: ItemErrorCode.MODEL_NOT_FOUND, 429: ItemErrorCode.RATE_LIMITED}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reply comes to."""

    outcome: ItemOutcome
    is_overload: bool = False
    """Whether the server had too much to do, so that it should get fewer requests at once."""
    may_ask_again: bool = False
    """Whether the same request is worth asking again soon."""
    retry_after_s: float | None = None


def judge(reply: Reply, index: int) -> Verdict:
    """The verdict on the reply to the item at ``index`` of the input."""
    if reply.timed_out or reply.status in _TOOK_TOO_LONG:
        problem = reply.problem or f"the upstream server gave up ({reply.status})"
        return Verdict(ItemFailed(index, ItemErrorCode.ITEM_TIMEOUT, problem), is_overload=True)
    if reply.too_large:
        return Verdict(ItemFailed(index, ItemErrorCode.INTERNAL, f"upstream: {reply.problem}"))
    if reply.status in _REFUSES_US:
        return Verdict(_refused(reply, index))
    if reply.status == 200 and reply.body is not None:
        return Verdict(_succeeded(reply.body, index))
    if 400 <= reply.status < 500 and reply.status != 429:
        return Verdict(_bad_request(reply, index))
    return _busy(reply, index)


def _succeeded(body: dict[str, Any], index: int) -> ItemSucceeded:
    usage = body.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ItemSucceeded(
        index=index,
        body=orjson.dumps(body),
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
    )


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def _refused(reply: Reply, index: int) -> ItemFailed:
    """Nothing of the server's own words: they may repeat the key."""
    message = (
        f"The upstream server refuses the key that this installation sends ({reply.status}). The operator must set "
        "the right one and start the workers anew; then retry the job."
    )
    return ItemFailed(index, ItemErrorCode.UPSTREAM_UNAVAILABLE, message, stops_job=True)


def _bad_request(reply: Reply, index: int) -> ItemFailed:
    said, code = _said(reply)
    is_too_long = code == "context_length_exceeded" or "maximum context length" in said
    if is_too_long:
        return ItemFailed(index, ItemErrorCode.CONTEXT_LENGTH_EXCEEDED, said)
    return ItemFailed(index, _CODES.get(reply.status, ItemErrorCode.INVALID_REQUEST), said)


def _busy(reply: Reply, index: int) -> Verdict:
    """Too much to do, out of order, or not to be reached: worth asking again."""
    said, _ = _said(reply)
    code = _CODES.get(reply.status, ItemErrorCode.UPSTREAM_UNAVAILABLE)
    failed = ItemFailed(index, code, said, retry_after_s=reply.retry_after_s)
    return Verdict(failed, is_overload=True, may_ask_again=True, retry_after_s=reply.retry_after_s)


def _said(reply: Reply) -> tuple[str, str | None]:
    """What the server says in words, and its code; both from a body of any shape."""
    body = reply.body or {}
    error = body.get("error")
    error = error if isinstance(error, dict) else {"message": error or body.get("message") or body.get("detail")}
    message, code = error.get("message"), error.get("code")
    words = message if isinstance(message, str) and message else reply.problem or "no reason given"
    where = f" ({reply.status})" if reply.status else ""
    return f"upstream{where}: {words[:LONGEST_SAYING]}", code if isinstance(code, str) else None
