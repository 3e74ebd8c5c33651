"""Result lines of a batch of messages, made of native ones: the lines of every dialect can be read as those."""

from __future__ import annotations

from typing import Any

import orjson

from app.domain.ids import message_id, request_id_of_item
from app.domain.messages import message_of
from app.domain.result_lines import status_of

_ERROR_TYPES = {
    400: "invalid_request_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_NEVER_RAN = {"cancelled": "canceled", "expired": "expired"}


def message_line(shown: dict[str, Any], *, job_id: str) -> bytes:
    """The line of an item, with its line end.

    Args:
        shown: the item's native result line.
    """
    return orjson.dumps({"custom_id": shown["custom_id"], "result": _result(shown, job_id)}) + b"\n"


def _result(shown: dict[str, Any], job_id: str) -> dict[str, Any]:
    status = shown["status"]
    if status in _NEVER_RAN:
        return {"type": _NEVER_RAN[status]}
    if status == "failed":
        return {"type": "errored", "error": _error(shown, job_id)}
    own_id = message_id(job_id, index=shown["index"])
    return {
        "type": "succeeded",
        "message": message_of(shown["response"]["body"], message_id=own_id, service_tier="batch"),
    }


def _error(shown: dict[str, Any], job_id: str) -> dict[str, Any]:
    code, message = shown["error"]["code"], shown["error"]["message"]
    kind = _ERROR_TYPES.get(status_of(code), "api_error")
    request_id = request_id_of_item(job_id, index=shown["index"], attempts=shown["attempts"])
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id}
