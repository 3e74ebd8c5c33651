"""The waiting side of the sync lane: a request and its reply over the broker.

A request travels as JSON to ``sync.<pool>`` with a time to live: ``endpoint``, ``model``, ``version``,
``body`` and ``timeout_s``, counted by whoever reads it, because two hosts' clocks may differ. The reply holds
``body`` (a JSON document as text),
``input_tokens`` and ``output_tokens``, or ``error`` with ``code``, ``message`` and, where that is known,
``retry_after_s``. It comes to a queue that
belongs to this process and goes with it. Neither is worth anything after the deadline: nothing is durable.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from kombu import Connection, Queue
from kombu.message import Message

from app.broker.connections import broker_connection
from app.broker.reconnecting_consumer import ReconnectingConsumer
from app.broker.resting_publisher import RestingPublisher, broker_unavailable
from app.errors import SyncTimedOut
from config.queues import WORK_EXCHANGE, sync_queue
from config.settings import Settings

Reply = dict[str, Any]


class KombuSyncLane:
    """The ``SyncLane`` of one process. Thread-safe; connects at the first call, which comes after any fork."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._starting = threading.Lock()
        self._replies: _Replies | None = None
        self._requests = RestingPublisher(settings)

    def call(self, *, pool: str, request: dict[str, Any], timeout_s: float) -> Reply:
        """Send ``request`` to any worker of ``pool`` and wait for its reply.

        Raises:
            SyncTimedOut: no reply in time.
            BrokerUnavailable: the broker did not take it, or the connection broke while we waited.
        """
        ends_at = time.monotonic() + timeout_s
        replies = self._started_replies()
        reply_queue = replies.queue_name(timeout_s=min(timeout_s, self._settings.broker_timeout_s))
        correlation_id = uuid.uuid4().hex
        reply = replies.expect(correlation_id)
        try:
            self._requests.publish(
                {**request, "timeout_s": timeout_s},
                timeout_s=timeout_s,
                exchange=WORK_EXCHANGE.name,
                routing_key=sync_queue(pool),
                expiration=timeout_s,
                reply_to=reply_queue,
                correlation_id=correlation_id,
            )
            return reply.result(timeout=max(0.0, ends_at - time.monotonic()))
        except FutureTimeout as error:
            raise SyncTimedOut(f"no worker answered within {timeout_s:g} s; send it again, or as a job") from error
        finally:
            replies.forget(correlation_id)

    def close(self) -> None:
        """End the thread and the connections."""
        with self._starting:
            if self._replies is not None:
                self._replies.close()
                self._replies = None
        self._requests.close()

    def _started_replies(self) -> _Replies:
        with self._starting:
            if self._replies is None:
                self._replies = _Replies(broker_connection(self._settings))
            return self._replies


class _Replies(ReconnectingConsumer):
    """A thread that hands replies to those who wait for them; reconnects by itself."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._waiting: dict[str, Future[Reply]] = {}
        self._ready = threading.Event()
        self._queue_name = ""
        self._thread = threading.Thread(target=self.run, name="sync-replies", daemon=True)
        self._thread.start()

    def queue_name(self, *, timeout_s: float) -> str:
        """The queue to reply to, once it exists.

        Raises:
            BrokerUnavailable: there is no connection within ``timeout_s``.
        """
        if not self._ready.wait(timeout_s):
            raise broker_unavailable("the broker cannot be reached")
        return self._queue_name

    def expect(self, correlation_id: str) -> Future[Reply]:
        """What will hold the reply."""
        return self._waiting.setdefault(correlation_id, Future())

    def forget(self, correlation_id: str) -> None:
        """Nobody waits for this reply any more."""
        self._waiting.pop(correlation_id, None)

    def close(self) -> None:
        """End the thread."""
        self.should_stop = True
        self._thread.join()

    def get_consumers(self, Consumer: Callable[..., Any], channel: Any) -> list[Any]:  # noqa: ARG002, N803
        """A queue of this connection's own; a new connection gets a new one."""
        self._queue_name = f"sync.reply.{uuid.uuid4().hex}"
        queue = Queue(self._queue_name, exclusive=True, auto_delete=True, durable=False)
        return [Consumer(queues=[queue], on_message=self._on_reply, accept=["json"], no_ack=True)]

    def on_consume_ready(self, *_arguments: Any, **_options: Any) -> None:
        """The queue exists: calls may go out."""
        self._ready.set()

    def on_disconnected(self) -> None:
        """What was waited for on this connection will never come; new calls wait for the next one."""
        self._ready.clear()
        for correlation_id in list(self._waiting):
            reply = self._waiting.pop(correlation_id, None)
            if reply is not None:
                reply.set_exception(broker_unavailable("the connection to the broker broke while the request ran"))

    def _on_reply(self, message: Message) -> None:
        reply = self._waiting.pop(message.properties.get("correlation_id", ""), None)
        if reply is not None:
            reply.set_result(message.payload)
