"""Publishes now and then over one connection that rests in between."""

from __future__ import annotations

import threading
from typing import Any

from kombu import Connection, Producer

from app.broker.connections import broker_connection
from app.errors import BrokerUnavailable
from config.settings import Settings

RETRY_AFTER_S = 2.0


class RestingPublisher:
    """Thread-safe: threads take turns. Connects at first use.

    No heartbeat: nobody would send it while the connection rests, and the broker would close it for that.
    """

    def __init__(self, settings: Settings) -> None:
        self._connection: Connection = broker_connection(settings, heartbeat_s=0)
        self._broker_timeout_s = settings.broker_timeout_s
        self._turn = threading.Lock()

    def publish(self, body: dict[str, Any], *, timeout_s: float, **options: Any) -> None:
        """Publish as transient JSON, confirmed by the broker.

        Args:
            options: of ``kombu.Producer.publish``.
        Raises:
            BrokerUnavailable: it was not confirmed within ``timeout_s`` or the configured broker timeout.
        """
        wait_s = min(timeout_s, self._broker_timeout_s)
        if not self._turn.acquire(timeout=wait_s):
            raise broker_unavailable("the broker is slow to take messages")
        try:
            self._publish(body, confirm_timeout=wait_s, **options)
        finally:
            self._turn.release()

    def close(self) -> None:
        """Close the connection; a later ``publish`` opens another."""
        with self._turn:
            self._connection.collect()

    def _publish(self, body: dict[str, Any], **options: Any) -> None:
        has_rested = self._connection.connected
        try:
            self._publish_once(body, **options)
        except TimeoutError as error:
            self._connection.collect()
            raise broker_unavailable("the broker did not confirm the message") from error
        except (*self._connection.connection_errors, *self._connection.channel_errors) as error:
            self._connection.collect()
            if not has_rested:
                raise broker_unavailable("the broker cannot be reached") from error
            # A connection that rested may have been closed by the other end; a new one shows the truth.
            self._publish(body, **options)

    def _publish_once(self, body: dict[str, Any], **options: Any) -> None:
        # Once: what asks for a channel of a closed connection would otherwise try for ever.
        self._connection.connect()
        producer = Producer(self._connection.default_channel)
        producer.publish(body, serializer="json", delivery_mode="transient", **options)


def broker_unavailable(what: str) -> BrokerUnavailable:
    """The error for ``what``, with the time to wait."""
    return BrokerUnavailable(f"{what}; the request may be sent again", retry_after_s=RETRY_AFTER_S)
