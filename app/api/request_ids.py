"""Every request has an id: on the response, in every log line, in every error body."""

from __future__ import annotations

import secrets
import time

import structlog
from flask import Flask, Response, g, request

from app.api.dialects import speaks_anthropic

log = structlog.get_logger(__name__)


def install(app: Flask) -> None:
    """Give ids to the requests of ``app``. Comes first, so that every other hook may log."""
    app.before_request(_begin)
    app.after_request(_end)


def new_request_id() -> str:
    """A fresh id."""
    return f"req_{secrets.token_hex(12)}"


def _begin() -> None:
    g.request_id = new_request_id()
    g.started = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _end(response: Response) -> Response:
    """Runs before a streamed body is sent, so ``duration_s`` is the time to its first byte."""
    response.headers["x-request-id"] = g.request_id
    if speaks_anthropic():
        response.headers["request-id"] = g.request_id
    log.info(
        "request",
        method=request.method,
        route=request.url_rule.rule if request.url_rule else None,
        status=response.status_code,
        duration_s=round(time.monotonic() - g.started, 4),
    )
    return response
