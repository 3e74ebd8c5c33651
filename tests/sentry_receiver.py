"""A Sentry that keeps the events that are sent to it."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

ARRIVE_WITHIN_S = 30.0


@dataclass
class SentryReceiver:
    """What has arrived."""

    dsn: str
    envelopes: list[bytes] = field(default_factory=list)

    @property
    def events(self) -> list[bytes]:
        """The JSON of each event: an envelope's line after the one that announces it."""
        found = []
        for envelope in self.envelopes:
            lines = envelope.split(b"\n")
            found += [body for head, body in pairwise(lines) if b'"type":"event"' in head]
        return found

    def wait_for_events(self, n: int) -> list[bytes]:
        """The events, once there are ``n``."""
        deadline = time.monotonic() + ARRIVE_WITHIN_S
        while len(self.events) < n:
            assert time.monotonic() < deadline, f"only {len(self.events)} events arrived"
            time.sleep(0.05)
        return self.events


@contextmanager
def sentry_receiver() -> Iterator[SentryReceiver]:
    """A Sentry on a port of its own until the block ends."""

    class Ingest(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            receiver.envelopes.append(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Ingest)
    receiver = SentryReceiver(f"http://public@127.0.0.1:{server.server_port}/1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
