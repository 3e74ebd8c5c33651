"""Result lines: written in the dialect of their job, readable natively.

Native:  ``{"custom_id", "index", "status", "response", "error", "attempts", "model_version", "usage"}``
OpenAI:  ``{"id", "custom_id", "response", "error"}``; index and attempts travel inside ``id``.

The Anthropic dialect stores OpenAI's, so that its batches have output files there too; ``message_results`` makes its
own lines of them as they are read.

Response bodies arrive from the engines as serialised JSON and are spliced in as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from app.domain.ids import batch_request_id, read_batch_request_id, request_id_of_item
from app.domain.items import ItemErrorCode, ItemFailed, ItemSucceeded
from app.domain.jobs import Dialect
from app.domain.retries import is_retryable

STATUS_OF_CODE = {
    ItemErrorCode.INVALID_JSON: 400,
    ItemErrorCode.INVALID_REQUEST: 400,
    ItemErrorCode.MISSING_REQUIRED_PARAMETER: 400,
    ItemErrorCode.MODEL_NOT_FOUND: 404,
    ItemErrorCode.CONTEXT_LENGTH_EXCEEDED: 400,
    ItemErrorCode.ITEM_TIMEOUT: 504,
    ItemErrorCode.RATE_LIMITED: 429,
    ItemErrorCode.UPSTREAM_UNAVAILABLE: 503,
    ItemErrorCode.OUT_OF_MEMORY: 500,
    ItemErrorCode.WORKER_CRASH: 500,
    ItemErrorCode.INTERNAL: 500,
}
_TYPE_OF_STATUS = {400: "invalid_request_error", 404: "invalid_request_error", 429: "rate_limit_error"}
NEVER_RAN = {
    "cancelled": ("cancelled", "batch_cancelled", "This request was cancelled before it ran."),
    "expired": ("deadline_exceeded", "batch_expired", "This request did not run before the completion window closed."),
}
"""Outcome of an item that never ran -> its native code, its OpenAI code, what a person reads."""


@dataclass(frozen=True, slots=True)
class LineContext:
    """What every line of a job shares."""

    dialect: Dialect
    job_id: str
    model_version: str | None

    @property
    def is_native(self) -> bool:
        """Whether lines are stored as the native dialect shows them."""
        return not self.dialect.stores_openai_lines


def status_of(code: str) -> int:
    """The HTTP status an item failure is reported with."""
    return STATUS_OF_CODE.get(ItemErrorCode(code), 500) if code in set(ItemErrorCode) else 500


def error_type(code: str) -> str:
    """The error type an item failure is reported with, in both dialects."""
    return _TYPE_OF_STATUS.get(status_of(code), "server_error")


def succeeded_line(context: LineContext, outcome: ItemSucceeded, *, custom_id: str, attempts: int) -> bytes:
    """The line of an item that succeeded, with its line end."""
    response = _response(context, outcome.index, attempts, 200, outcome.body)
    if not context.is_native:
        return _openai_line(context, outcome.index, attempts, custom_id, response, b"null")
    usage = orjson.dumps({"input_tokens": outcome.input_tokens, "output_tokens": outcome.output_tokens})
    return _native_line(context, outcome.index, attempts, custom_id, "succeeded", response, b"null", usage)


def failed_line(context: LineContext, outcome: ItemFailed, *, custom_id: str, attempts: int) -> bytes:
    """The line of an item that ran, or was refused by the engine, and failed."""
    kind, status = error_type(outcome.code), status_of(outcome.code)
    if not context.is_native:
        error = {"message": outcome.message, "type": kind, "param": None, "code": outcome.code}
        body = _dumps({"error": error})
        response = _response(context, outcome.index, attempts, status, body)
        return _openai_line(context, outcome.index, attempts, custom_id, response, b"null")
    error = _native_error(outcome.code, outcome.message)
    return _native_line(context, outcome.index, attempts, custom_id, "failed", b"null", _dumps(error), b"null")


def never_ran_line(context: LineContext, *, index: int, custom_id: str, outcome: str, attempts: int = 0) -> bytes:
    """The line of an item whose job was cancelled or expired before it ran."""
    native_code, openai_code, message = NEVER_RAN[outcome]
    if not context.is_native:
        error = _dumps({"code": openai_code, "message": message})
        return _openai_line(context, index, attempts, custom_id, b"null", error)
    error = _dumps(_native_error(native_code, message))
    return _native_line(context, index, attempts, custom_id, outcome, b"null", error, b"null")


def to_native(line: bytes, *, outcome: str, context: LineContext) -> bytes:
    """A stored line as the native dialect shows it, with its line end.

    Args:
        outcome: the outcome its part holds: succeeded, failed, cancelled or expired.
    """
    if context.is_native:
        return line
    return orjson.dumps(native_fields(line, outcome=outcome, context=context)) + b"\n"


def native_fields(line: bytes, *, outcome: str, context: LineContext) -> dict[str, Any]:
    """What the native line of a stored line holds; see ``to_native``."""
    stored: dict[str, Any] = orjson.loads(line)
    if context.is_native:
        return stored
    ref = read_batch_request_id(stored["id"])
    shown: dict[str, Any] = {
        "custom_id": stored["custom_id"],
        "index": ref.index,
        "status": outcome,
        "response": None,
        "error": None,
        "attempts": ref.attempts,
        "model_version": context.model_version,
        "usage": None,
    }
    if outcome == "succeeded":
        body = stored["response"]["body"]
        shown["response"] = {"status_code": stored["response"]["status_code"], "body": body}
        shown["usage"] = _usage_of(body)
    elif outcome == "failed":
        error = stored["response"]["body"]["error"]
        shown["error"] = _native_error(error["code"], error["message"])
    else:
        native_code, _, message = NEVER_RAN[outcome]
        shown["error"] = _native_error(native_code, message)
    return shown


def tried_item(line: bytes, *, outcome: str, context: LineContext) -> tuple[int, int]:
    """Index of the item of a stored line, and how often it was tried."""
    shown = native_fields(line, outcome=outcome, context=context)
    return shown["index"], shown["attempts"]


def _usage_of(body: Any) -> dict[str, int] | None:
    """The usage a stored body tells; None where its endpoint tells none."""
    usage = body.get("usage") if isinstance(body, dict) else None
    if not isinstance(usage, dict):
        return None
    return {
        "input_tokens": usage.get("prompt_tokens", 0),
        "output_tokens": usage.get("completion_tokens", 0),
    }


def _native_error(code: str, message: str) -> dict[str, Any]:
    return {"type": error_type(code), "code": code, "message": message, "retryable": is_retryable(code)}


def _response(context: LineContext, index: int, attempts: int, status: int, body: bytes) -> bytes:
    if not context.is_native:
        request_id = request_id_of_item(context.job_id, index=index, attempts=attempts)
        return b'{"status_code":%d,"request_id":"%s","body":%s}' % (status, request_id.encode(), body)
    return b'{"status_code":%d,"body":%s}' % (status, body)


def _openai_line(
    context: LineContext, index: int, attempts: int, custom_id: str, response: bytes, error: bytes
) -> bytes:
    line_id = batch_request_id(context.job_id, index=index, attempts=attempts).encode()
    return b'{"id":"%s","custom_id":%s,"response":%s,"error":%s}\n' % (line_id, _dumps(custom_id), response, error)


def _native_line(
    context: LineContext,
    index: int,
    attempts: int,
    custom_id: str,
    status: str,
    response: bytes,
    error: bytes,
    usage: bytes,
) -> bytes:
    return (
        b'{"custom_id":%s,"index":%d,"status":"%s","response":%s,"error":%s,"attempts":%d,"model_version":%s,"usage":%s}\n'
        % (
            _dumps(custom_id),
            index,
            status.encode(),
            response,
            error,
            attempts,
            _dumps(context.model_version),
            usage,
        )
    )


def _dumps(value: Any) -> bytes:
    return orjson.dumps(value)
