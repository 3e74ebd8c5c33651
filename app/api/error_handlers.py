"""Turn whatever goes wrong in a request into our JSON error body. Never a page, never a traceback."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import ClientDisconnected, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from app import errors
from app.api.dialects import speaks_anthropic
from app.api.error_tables import ErrorKind, kind_of

log = structlog.get_logger(__name__)

MAX_RETRY_AFTER_S = 120
"""The OpenAI SDK does not wait longer; it gives up."""
DEFAULT_RETRY_AFTER_S = 5
_SAYS_WHEN = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


def install(app: Flask) -> None:
    """Answer every error of ``app``.

    No handler for ``Exception``: Flask wraps what is outside our tree into a 500 itself, and on that way it logs it
    and tells Sentry.
    """
    app.register_error_handler(errors.NightshiftError, _answer)
    app.register_error_handler(HTTPException, _answer_http)


def _answer(error: errors.NightshiftError) -> Response:
    kind = kind_of(type(error))
    _log(error, kind)
    response = _response(
        kind, code=error.reported_code, message=error.message, param=error.param, retryable=error.retryable
    )
    response.headers.extend(_headers(error, kind))
    return response


def _log(error: errors.NightshiftError, kind: ErrorKind) -> None:
    if kind.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        # The message quotes what the client sent, and the client has it.
        log.info("request_refused", code=error.reported_code, error=type(error).__name__)
    elif kind.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.error("request_failed", code=error.reported_code, reason=error.message, exc_info=error)
    else:
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        log.warning("request_failed", code=error.reported_code, reason=error.message, cause=cause)


def _headers(error: errors.NightshiftError, kind: ErrorKind) -> dict[str, str]:
    if kind.status in _SAYS_WHEN:
        wait_s = math.ceil(error.retry_after_s or DEFAULT_RETRY_AFTER_S)
        return {"Retry-After": str(max(1, min(wait_s, MAX_RETRY_AFTER_S)))}
    if isinstance(error, errors.StateConflict):
        return {"x-should-retry": "false"}
    if isinstance(error, errors.NotAuthenticated):
        return {"WWW-Authenticate": 'Bearer realm="nightshift"'}
    if isinstance(error, errors.RangeNotSatisfiable):
        return {"Content-Range": f"bytes */{error.size_bytes}"}
    return {}


def _answer_http(error: HTTPException) -> Response:
    """Answer what Flask and Werkzeug raise themselves."""
    if isinstance(error, NotFound):
        return _answer(errors.NotFound(f"there is no route {request.method} {request.path[:200]}"))
    if isinstance(error, RequestEntityTooLarge):
        return _answer(_too_large())
    if isinstance(error, MethodNotAllowed):
        return _answer_method(error)
    if isinstance(error, ClientDisconnected):
        return _answer(errors.InvalidRequest("the request body is malformed, or broke off before its end"))
    if error.code is not None and error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
        kind = ErrorKind(HTTPStatus(error.code), "invalid_request_error")
        return _response(kind, code="invalid_request", message=error.description or error.name)
    return _internal()


def _too_large() -> errors.RequestTooLarge:
    limit = request.max_content_length
    return errors.RequestTooLarge(f"the request body is larger than {limit} bytes; split it or upload a file")


def _answer_method(error: MethodNotAllowed) -> Response:
    allowed = ", ".join(sorted(error.valid_methods or ()))
    message = f"{request.path[:200]} does not take {request.method}; it takes {allowed}"
    response = _answer(errors.MethodNotAllowed(message))
    response.headers["Allow"] = allowed
    return response


def _internal() -> Response:
    """Say nothing about a bug but where to find it."""
    message = f"Something went wrong on our side; it is in the log under {g.request_id}."
    return _response(kind_of(errors.NightshiftError), code="internal", message=message)


def _response(
    kind: ErrorKind, *, code: str, message: str, param: str | None = None, retryable: bool = False
) -> Response:
    status: int = kind.status
    if speaks_anthropic():
        status = kind.anthropic_status
        body = anthropic_body(kind, message=message, request_id=g.request_id)
    else:
        error = {"type": kind.type, "code": code, "message": message, "param": param, "retryable": retryable}
        body = {"error": {**error, "request_id": g.request_id}}
    return Response(current_app.json.dumps(body), status=status, mimetype="application/json")


def anthropic_body(kind: ErrorKind, *, message: str, request_id: str) -> dict[str, Any]:
    """An error as the Anthropic dialect tells it."""
    return {"type": "error", "error": {"type": kind.anthropic_type, "message": message}, "request_id": request_id}
