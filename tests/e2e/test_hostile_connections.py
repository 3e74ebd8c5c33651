"""What is no HTTP, and clients that say nothing: answered in our error body, and no thread is lost to them."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import httpx
import pytest
from running_stack import RunningStack

from app.api.gunicorn_worker import HEAD_SILENCE_S, LINGER_BYTES
from config.settings import Settings


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client(stack.new_key("hostile")) as made:
        yield made


def _connect(client: httpx.Client, sent: bytes, *, timeout_s: float = 20) -> socket.socket:
    address = urlsplit(str(client.base_url))
    connection = socket.create_connection((address.hostname, address.port), timeout=timeout_s)
    connection.sendall(sent)
    return connection


def _answer(client: httpx.Client, sent: bytes) -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, headers and error of the answer to raw bytes."""
    with _connect(client, sent) as connection, connection.makefile("rb") as stream:
        status = int(stream.readline().split()[1])
        lines = iter(stream.readline, b"\r\n")
        headers = dict(line.decode().strip().lower().split(": ", 1) for line in lines)
        body = json.loads(stream.read(int(headers["content-length"])))
    return status, headers, body["error"]


def _post(client: httpx.Client, framing: str, body: bytes = b"") -> bytes:
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n"
    return f"{head}Content-Type: application/json\r\n{framing}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(b"\x16\x03\x01\x00\xee\r\n\r\n", 400, id="TLS on a plain port"),
        pytest.param(b"GET /v1/jobs\r\n\r\n", 400, id="HTTP 0.9"),
        pytest.param(b"GET /v1/jobs/\x00 HTTP/1.1\r\n\r\n", 400, id="zero in the path"),
        pytest.param(b"GET /v1/jobs/%s HTTP/1.1\r\n\r\n" % (b"a" * 10_000), 414, id="long path"),
        pytest.param(b"GET / HTTP/1.1\r\nX-Api-Key: %s\r\n\r\n" % (b"a" * 20_000), 431, id="long header"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, id="negative length"),
        pytest.param(b"GET / HTTP/1.1\r\nTransfer-Encoding: rot13\r\n\r\n", 400, id="unknown coding"),
        pytest.param(b"GET / HTTP/1.1\r\nExpect: miracles\r\n\r\n", 417, id="unknown expectation"),
    ],
)
def test_what_is_no_request_is_refused_in_our_error_body(client: httpx.Client, sent: bytes, status: int) -> None:
    got, headers, error = _answer(client, sent)
    assert (got, headers["content-type"]) == (status, "application/json")
    assert error["code"] == "invalid_request"
    assert error["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n0\r\n\r\n", b"-2\r\n{}\r\n0\r\n\r\n", b"2\r\n{}junk\r\n0\r\n\r\n"])
def test_a_body_in_malformed_chunks_is_400(client: httpx.Client, chunks: bytes) -> None:
    status, _, error = _answer(client, _post(client, "Transfer-Encoding: chunked", chunks))
    assert (status, error["code"]) == (400, "invalid_value")


def test_clients_that_fall_silent_do_not_keep_the_others_waiting(stack: RunningStack, client: httpx.Client) -> None:
    settings = Settings.from_environ(stack.settings)
    n_threads = settings.api_workers * settings.api_threads
    with ExitStack() as silent:
        for _ in range(3 * n_threads):
            silent.enter_context(_connect(client, b"GET /v1/jo"))
        time.sleep(0.5)
        begun = time.monotonic()
        assert client.get("/healthz", timeout=60).status_code == 200
        assert time.monotonic() - begun < 4 * HEAD_SILENCE_S


def test_a_large_request_that_is_refused_unread_gets_its_answer(client: httpx.Client) -> None:
    body = b"x" * (30 * 2**20)
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer none\r\nContent-Length: {len(body)}\r\n\r\n"
    status, _, error = _answer(client, head.encode() + body)
    assert (status, error["code"]) == (401, "invalid_api_key")


def test_a_body_too_long_to_be_read_to_its_end_does_not_cost_the_client_its_next_request(client: httpx.Client) -> None:
    body = b"x" * (LINGER_BYTES + 2**22)
    for _ in range(3):
        refused = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"}, timeout=60)
        assert (refused.status_code, refused.headers["Connection"]) == (413, "close")
        assert client.get("/v1/jobs").status_code == 200
