"""A consumer in a thread of its own that comes back soon after the broker does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from kombu import Connection
from kombu.mixins import ConsumerMixin

RECONNECT_S = 1.0

log = structlog.get_logger(__name__)


class ReconnectingConsumer(ConsumerMixin):
    """kombu's mixin, except for the pause: left alone it grows to half a minute and cannot be interrupted."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def run(self) -> None:  # type: ignore[override]
        """Consume until ``should_stop`` is set, connecting anew every second while there is no broker."""
        errors = (*self.connection.connection_errors, *self.connection.channel_errors)
        while not self.should_stop:
            try:
                for _ in self.consume():  # type: ignore[no-untyped-call]
                    pass
            except errors as error:
                self.on_disconnected()
                log.warning("broker_disconnected", consumer=type(self).__name__, error=repr(error))
                time.sleep(RECONNECT_S)

    def on_disconnected(self) -> None:
        """For subclasses: the connection is gone."""

    @contextmanager
    def establish_connection(self) -> Iterator[Connection]:
        """Connect, or raise at once."""
        with self.create_connection() as connection:  # type: ignore[no-untyped-call]
            connection.connect()
            yield connection
