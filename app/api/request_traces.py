"""A span for every request, which goes on with the trace of a client that sends a ``traceparent``."""

from __future__ import annotations

from contextlib import ExitStack

from flask import Flask, Response, g, request

from app.api.request_metrics import METHODS, NO_ROUTE, OTHER_METHOD
from app.observability import tracing


def install(app: Flask) -> None:
    """Trace the requests of ``app`` to the head of the answer, where tracing is on. Comes after ``request_ids``."""
    if tracing.is_on():
        app.before_request(_begin)
        app.after_request(_note_status)
        app.teardown_request(_end)


def _begin() -> None:
    method = request.method if request.method in METHODS else OTHER_METHOD
    route = request.url_rule.rule if request.url_rule else NO_ROUTE
    g.span_stack = ExitStack()
    g.span = g.span_stack.enter_context(
        tracing.span(
            f"{method} {route}",
            parent=request.headers.get("traceparent"),
            kind="server",
            **{"http.request.method": method, "http.route": route},
        )
    )


def _note_status(response: Response) -> Response:
    g.span.note(**{"http.response.status_code": response.status_code})
    return response


def _end(_error: BaseException | None) -> None:
    """End the span, where there is one: a hook before ours may have failed."""
    stack: ExitStack | None = g.pop("span_stack", None)
    if stack is not None:
        stack.close()
