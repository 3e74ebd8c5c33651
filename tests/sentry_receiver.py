"""A Sentry that keeps the events that are sent to it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from posted_bodies import posted_bodies

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

    receiver = SentryReceiver("")
    with posted_bodies(lambda _path, body: receiver.envelopes.append(body)) as port:
        receiver.dsn = f"http://public@127.0.0.1:{port}/1"
        yield receiver
