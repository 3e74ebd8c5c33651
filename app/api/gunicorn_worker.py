"""gunicorn's threads for the API: its own refusals in our error body, and no thread for a client that says nothing.

Nor for one that is told little: a connection may be handed over to whoever goes on with its answer.

gunicorn answers what it cannot even parse with a page of HTML, and reads and writes without any time limit, so that as
many silent connections as there are threads would stop the API.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from http import HTTPStatus
from typing import Any

import orjson
from gunicorn import util
from gunicorn.http import errors as http_errors
from gunicorn.workers.gthread import ThreadWorker

from app.api.request_ids import new_request_id

HEAD_SILENCE_S = 5
"""How long a client may pause within the head of a request; it fits into a packet or two."""
BODY_SILENCE_S = 30
"""How long a client may pause within a body, or leave an answer unread."""

LINGER_S = 5.0
LINGER_BYTES = 64 * 1024 * 1024
"""What is still read of a body whose request is answered already. gunicorn reads 64 KiB and then resets the connection,
and with it goes the answer to an upload that was refused on its way."""

_REFUSALS: dict[type[Exception], tuple[HTTPStatus, str]] = {
    http_errors.LimitRequestLine: (HTTPStatus.REQUEST_URI_TOO_LONG, "the path and query are too long"),
    http_errors.LimitRequestHeaders: (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "there are too many headers, or one is too long",
    ),
    http_errors.ExpectationFailed: (HTTPStatus.EXPECTATION_FAILED, "only 'Expect: 100-continue' is understood"),
    http_errors.ParseException: (HTTPStatus.BAD_REQUEST, "this is not a well-formed HTTP/1.1 request"),
}


class ImpatientSocket(socket.socket):
    """A connection whose client has gone, for whoever reads or writes it, once it has been silent for too long."""

    is_handed_over = False

    def hand_over(self) -> None:
        """Leave the connection to whoever calls this: gunicorn neither writes to it nor closes it any more."""
        self.is_handed_over = True

    def allow_silence(self, seconds: int) -> None:
        """Wait so long for each piece; the kernel counts, so this holds for a socket that blocks."""
        limit = struct.pack("@ll", seconds, 0)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def recv(self, *args: Any) -> bytes:
        """Receive, as the base class does."""
        try:
            return super().recv(*args)
        except BlockingIOError as error:
            raise ConnectionResetError(errno.ECONNRESET, "the client paused for too long") from error

    def sendall(self, *args: Any) -> None:
        """Send, as the base class does; gunicorn's end of an answer that another goes on with is not sent."""
        if self.is_handed_over:
            return
        try:
            super().sendall(*args)
        except BlockingIOError as error:
            raise BrokenPipeError(errno.EPIPE, "the client left the answer unread for too long") from error


class ApiWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """One process of the API."""

    def enqueue_req(self, conn: Any) -> None:
        """Hand a connection that may have something to read to a thread."""
        if not isinstance(conn.sock, ImpatientSocket):
            conn.sock = ImpatientSocket(fileno=conn.sock.detach())
        conn.sock.allow_silence(HEAD_SILENCE_S)
        super().enqueue_req(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve a request whose head has been read."""
        conn.sock.allow_silence(BODY_SILENCE_S)
        req.body.reader = _BodyReader(req.body.reader)
        if _announced_bytes(req) > LINGER_BYTES:
            # Refused, it would not be read to its end; the answer must say by then that the connection closes.
            req.force_close()
        return super().handle_request(req, conn)

    def _keepalive_after(self, conn: Any, keepalive: Any) -> bool:
        """Whether the connection can be used again; the rest of the body is read either way."""
        if conn.sock.is_handed_over:
            return False
        is_read = conn.parser.finish_body(deadline=time.monotonic() + LINGER_S, max_bytes=LINGER_BYTES)
        return bool(keepalive and is_read)

    def finish_request(self, conn: Any, fs: Any) -> None:
        """Put a connection back or close it, unless it is somebody else's by now."""
        if getattr(conn.sock, "is_handed_over", False):
            self.nr_conns -= 1
        else:
            super().finish_request(conn, fs)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002 - gunicorn's
        """Answer what did not become a request, and what went wrong outside the application."""
        refused = next((_REFUSALS[kind] for kind in type(exc).__mro__ if kind in _REFUSALS), None)
        if refused is None or isinstance(exc, http_errors.ConfigurationProblem):
            self.log.error("Error handling a request", exc_info=exc)
            refused = (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong on our side.")
        else:
            self.log.info("Refused what is not a request: %s", type(exc).__name__)
        try:
            util.write_nonblock(client, _answer(*refused))
        except OSError as error:
            self.log.debug("The client did not wait for its answer: %s", error)


class _BodyReader:
    """Reads a body; one with broken chunks ends like one that broke off."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def read(self, size: int) -> bytes:
        try:
            data: bytes = self._reader.read(size)
        except http_errors.ParseException as error:
            raise ConnectionResetError(errno.ECONNRESET, "the body's chunks are malformed") from error
        return data


def _announced_bytes(req: Any) -> int:
    """The length of the body, which gunicorn has checked; 0 where it comes in chunks."""
    return max((int(value) for name, value in req.headers if name == "CONTENT-LENGTH"), default=0)


def _answer(status: HTTPStatus, message: str) -> bytes:
    own_fault = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    request_id = new_request_id()
    error = {
        "type": "server_error" if own_fault else "invalid_request_error",
        "code": "internal" if own_fault else "invalid_request",
        "message": message,
        "param": None,
        "retryable": False,
        "request_id": request_id,
    }
    body = orjson.dumps({"error": error})
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"x-request-id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
