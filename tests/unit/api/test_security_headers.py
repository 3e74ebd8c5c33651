"""A browser that is led to an answer of ours runs nothing of it, keeps nothing and shows it in no frame."""

from __future__ import annotations

import pytest
from flask import Flask, Response

from app.api import security_headers


@pytest.fixture
def app() -> Flask:
    """An application with a route that has headers of its own, and one that has none."""
    made = Flask("headers")
    made.add_url_rule("/plain", view_func=lambda: Response("<script>alert(1)</script>"), endpoint="plain")
    own = {"Content-Security-Policy": "default-src 'self'"}
    made.add_url_rule("/own", view_func=lambda: Response("page", headers=own), endpoint="own")
    security_headers.install(made)
    return made


@pytest.mark.parametrize("path", ["/plain", "/nowhere"])
def test_every_answer_carries_them_an_error_too(app: Flask, path: str) -> None:
    headers = app.test_client().get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


def test_a_page_may_have_a_policy_of_its_own(app: Flask) -> None:
    assert app.test_client().get("/own").headers["Content-Security-Policy"] == "default-src 'self'"
