"""Uploads over a real connection: in pieces, broken off, far too long."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from running_stack import RunningStack

HEAD = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
TAIL = b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'
FORM = "multipart/form-data; boundary=b"
MIB = 1024 * 1024


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A tenant of its own, so that its files can be counted."""
    with stack.client(stack.new_key("uploads")) as made:
        yield made


def _n_files(client: httpx.Client) -> int:
    return len(client.get("/v1/files").raise_for_status().json()["data"])


def test_an_upload_of_unknown_length_is_taken_and_comes_back_whole(client: httpx.Client) -> None:
    content = bytes(range(256)) * (20 * MIB // 256)

    def pieces() -> Iterator[bytes]:
        yield HEAD
        for start in range(0, len(content), 77_777):
            yield content[start : start + 77_777]
        yield TAIL

    uploaded = client.post("/v1/files", content=pieces(), headers={"Content-Type": FORM})
    assert uploaded.json()["bytes"] == len(content)
    assert client.get(f"/v1/files/{uploaded.json()['id']}/content").content == content


@pytest.mark.parametrize("framing", ["Content-Length: 50000000", "Transfer-Encoding: chunked"])
def test_an_upload_that_breaks_off_makes_no_file(client: httpx.Client, framing: str) -> None:
    before = _n_files(client)
    body = HEAD + b"x" * MIB
    if "chunked" in framing:
        body = b"%x\r\n%s\r\n" % (len(body), body)
    key = client.headers["Authorization"]
    request = f"POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Type: {FORM}\r\n{framing}\r\n\r\n"
    address = urlsplit(str(client.base_url))
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(request.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(4096).startswith(b"HTTP/1.1 400")
    assert _n_files(client) == before


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(client: httpx.Client) -> None:
    address = urlsplit(str(client.base_url))
    key = client.headers["Authorization"]
    for path, kind in (("/v1/files", FORM), ("/v1/jobs", "application/json")):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {key}\r\nContent-Type: {kind}\r\n"
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            connection.sendall(f"{head}Content-Length: {10**12}\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_refused_once_it_is_too_long(client: httpx.Client) -> None:
    pieces = (b" " * MIB for _ in range(70))
    refused = client.post("/v1/jobs", content=pieces, headers={"Content-Type": "application/json"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")
