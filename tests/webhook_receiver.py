"""A receiver of webhooks on loopback that keeps what it gets and answers as a test tells it."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    server_name: str | None = None
    """What TLS asked for."""

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"thank you"
    delay_s: float = 0.0
    drip_s: float = 0.0
    """Pause between the bytes of the head."""


@dataclass(slots=True)
class WebhookReceiver:
    """What came, and how it is answered."""

    url: str
    port: int
    reply: Callable[[Received], Reply] = lambda _received: Reply()
    received: list[Received] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [received.id for received in self.received]

    @property
    def types(self) -> list[str]:
        return [received.event["type"] for received in self.received]

    def wait_for(self, n: int, *, timeout_s: float = 20) -> Sequence[Received]:
        """Wait until ``n`` requests have come."""
        deadline_s = time.monotonic() + timeout_s
        while len(self.received) < n:
            assert time.monotonic() < deadline_s, f"{len(self.received)} of {n} webhooks within {timeout_s} s"
            time.sleep(POLL_S)
        return self.received


@contextmanager
def webhook_receiver(*, port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[WebhookReceiver]:
    """Run one."""
    server = _Server(("127.0.0.1", port), _Handler)
    port = server.server_address[1]
    server.receiver = WebhookReceiver(f"{'https' if tls else 'http'}://127.0.0.1:{port}/hook", port)
    if tls is not None:
        tls.sni_callback = _note_server_name  # type: ignore[assignment]  # typeshed forgets the callback's optional name
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=partial(server.serve_forever, 0.02), daemon=True)
    thread.start()
    try:
        yield server.receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def own_authority(folder: Path, host: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's TLS, with a certificate for ``host`` that only that client believes."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subject = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*made, *subject, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    receiver: WebhookReceiver

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that goes away, or does not believe the certificate, is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        received = Received(self.path, headers, body, getattr(self.connection, "asked_for", None))
        self.server.receiver.received.append(received)
        reply = self.server.receiver.reply(received)
        time.sleep(reply.delay_s)
        lines = [f"HTTP/1.1 {reply.status} X", *(f"{name}: {value}" for name, value in reply.headers.items())]
        lines += [f"Content-Length: {len(reply.body)}", "Connection: close", "", ""]
        self._send("\r\n".join(lines).encode(), reply.drip_s)
        self._send(reply.body, 0)

    def _send(self, data: bytes, drip_s: float) -> None:
        for piece in [data[n : n + 1] for n in range(len(data))] if drip_s else [data]:
            self.connection.sendall(piece)
            time.sleep(drip_s)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
        """Say nothing."""


def _note_server_name(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
    setattr(connection, "asked_for", name)  # noqa: B010 - kept where the handler finds it
