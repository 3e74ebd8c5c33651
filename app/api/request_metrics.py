"""Counts every answered request by its route."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request

from app.metrics import observe_request

# Paths and method names are the client's text; each would make a series of its own.
NO_ROUTE = "none"
OTHER_METHOD = "OTHER"
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS"})


def install(app: Flask) -> None:
    """Measure to the head of the answer; what streams behind it is not counted. Needs ``request_ids``."""
    app.after_request(_observe)


def _observe(response: Response) -> Response:
    observe_request(
        method=request.method if request.method in METHODS else OTHER_METHOD,
        route=request.url_rule.rule if request.url_rule else NO_ROUTE,
        status=response.status_code,
        duration_s=time.monotonic() - g.started,
    )
    return response
