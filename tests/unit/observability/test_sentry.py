"""What reaches Sentry, and what does not."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import structlog

from app.errors import DependencyFailed, LeaseLost, NightshiftError, NotFound, StorageUnavailable
from app.observability.sentry import before_send


def _hint(error: Exception) -> dict[str, Any]:
    return {"exc_info": (type(error), error, None)}


@pytest.mark.parametrize("error", [NotFound("there is no such job"), LeaseLost("another worker has it")])
def test_what_is_expected_is_not_sent(error: NightshiftError) -> None:
    assert before_send({}, _hint(error)) is None


@pytest.mark.parametrize("error", [StorageUnavailable("down"), DependencyFailed("down"), KeyError("a bug")])
def test_bugs_and_failing_services_are_sent(error: Exception) -> None:
    assert before_send({}, _hint(error)) is not None


def test_our_errors_are_grouped_by_their_class_and_bugs_by_where_they_are() -> None:
    ours, bug = before_send({}, _hint(StorageUnavailable("bucket 7 is down"))), before_send({}, _hint(KeyError("x")))
    assert ours is not None
    assert bug is not None
    assert ours["fingerprint"] == ["StorageUnavailable"]
    assert "fingerprint" not in bug


def test_the_ids_of_the_log_lines_become_tags_and_nothing_else_does() -> None:
    structlog.contextvars.clear_contextvars()
    with structlog.contextvars.bound_contextvars(job_id="job_1", attempt=2, custom_id="a client's text"):
        event = before_send({"tags": {"process": "api"}}, {})
    assert event is not None
    assert event["tags"] == {"process": "api", "job_id": "job_1", "attempt": "2"}


_FLASK_APP = """
import sys
from flask import Flask
import sentry_sdk
from app.errors import NotFound
from app.observability.sentry import init_sentry
from config.settings import load_settings

init_sentry(load_settings(), process="api")
app = Flask("nightshift")
app.register_error_handler(NotFound, lambda error: ("not found", 404))

@app.post("/bug")
def bug():
    clients_text = "a secret of the client"
    raise KeyError("lost")

@app.get("/refused")
def refused():
    raise NotFound("there is no such job")

client = app.test_client()
print(client.get("/refused").status_code, client.post("/bug", data="a secret of the client").status_code)
sentry_sdk.flush(10)
"""


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[bytes]]]:
    """A DSN, and what was sent to it."""
    received: list[bytes] = []

    class Ingest(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Ingest)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://public@127.0.0.1:{server.server_port}/1", received
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_bug_in_a_view_is_reported_without_the_clients_data(sentry: tuple[str, list[bytes]]) -> None:
    dsn, received = sentry
    required = (
        "DATABASE_URL",
        "BROKER_URL",
        "REDIS_URL",
        "S3_ENDPOINT",
        "S3_ACCESS_KEY",
        "S3_SECRET_KEY",
        "KEY_PEPPER",
    )
    environ = {**os.environ, **{f"NIGHTSHIFT_{name}": "x" for name in required}, "NIGHTSHIFT_SENTRY_DSN": dsn}
    done = subprocess.run(
        [sys.executable, "-c", _FLASK_APP], env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "404 500\n"
    (event,) = [envelope for envelope in received if b'"type":"event"' in envelope]
    assert b"KeyError" in event
    assert b'"process":"api"' in event
    assert b"a secret of the client" not in event
