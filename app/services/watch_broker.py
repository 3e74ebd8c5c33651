"""The dispatcher's way to the broker, which remembers whether the broker takes what it is given."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from app.errors import BrokerUnavailable
from app.ports import Grant, WorkPublisher
from config.queues import CONTROL_QUEUE

ASK_AFTER_S = 10.0
"""A broker that answers again, but was given nothing to take since, counts as back after this long."""


class WatchedPublisher:
    """A ``WorkPublisher`` around another."""

    def __init__(self, publisher: WorkPublisher) -> None:
        self._publisher = publisher
        self._away_since_s: float | None = None
        self._failed_at_s = 0.0

    @property
    def away_s(self) -> float | None:
        """For how long the broker has taken nothing; None where it took what it was given last."""
        return None if self._away_since_s is None else time.monotonic() - self._away_since_s

    def ask_again(self) -> None:
        """Ask a broker that was away for a while whether it is back, in case nothing is to be published."""
        if self._away_since_s is not None and time.monotonic() - self._failed_at_s >= ASK_AFTER_S:
            self.ready_counts([CONTROL_QUEUE])

    def publish_prepare(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_prepare``."""
        with self._watch():
            self._publisher.publish_prepare(job_id)

    def publish_wave(self, job_id: str, grants: Sequence[Grant]) -> None:
        """See ``WorkPublisher.publish_wave``."""
        with self._watch():
            self._publisher.publish_wave(job_id, grants)

    def publish_finish(self, job_id: str) -> None:
        """See ``WorkPublisher.publish_finish``."""
        with self._watch():
            self._publisher.publish_finish(job_id)

    def publish_lead(self, group_id: str) -> None:
        """See ``WorkPublisher.publish_lead``."""
        with self._watch():
            self._publisher.publish_lead(group_id)

    def publish_webhook(self, delivery_id: str) -> None:
        """See ``WorkPublisher.publish_webhook``."""
        with self._watch():
            self._publisher.publish_webhook(delivery_id)

    def ready_counts(self, queues: Sequence[str]) -> dict[str, int]:
        """See ``WorkPublisher.ready_counts``."""
        with self._watch():
            return self._publisher.ready_counts(queues)

    @contextmanager
    def _watch(self) -> Iterator[None]:
        try:
            yield
        except BrokerUnavailable:
            self._failed_at_s = time.monotonic()
            if self._away_since_s is None:
                self._away_since_s = self._failed_at_s
            raise
        self._away_since_s = None
