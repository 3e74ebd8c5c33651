"""Serves requests that a client waits for, between the micro-batches of the running chunk.

Beside ``app/broker/sync_client.py``, which says what travels in both directions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from kombu.message import Message

from app.broker.connections import broker_connection
from app.broker.reconnecting_consumer import ReconnectingConsumer
from app.broker.resting_publisher import RestingPublisher
from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome, ItemSucceeded
from app.errors import BrokerUnavailable, ModelNotFound, NightshiftError
from app.ports import RunStats
from config.queues import sync_lane_queue
from config.settings import Settings
from workers.black_box import DevicePass
from workers.device_lock import DeviceLock
from workers.engines.base import DeviceLost
from workers.engines.registry import EngineRegistry
from workers.window_runner import DeviceLimits, WindowRunner

log = structlog.get_logger(__name__)

_UNUSABLE = {"error": {"code": ItemErrorCode.INTERNAL, "message": "the model cannot be used at present"}}


class SyncLaneServer(ReconnectingConsumer):
    """One thread of a device worker; reconnects by itself, for ever. Of a drained worker it is closed."""

    def __init__(
        self,
        settings: Settings,
        *,
        pool: str,
        engines: EngineRegistry,
        device_lock: DeviceLock,
        device_pass: DevicePass | None = None,
    ) -> None:
        """Bind the lane to a worker.

        Args:
            device_pass: where each request is noted while it is on the device; None where nobody would read it.
        """
        super().__init__(broker_connection(settings))
        self._device_pass = device_pass
        self._hang_timeout_s = settings.hang_timeout_s
        self._replies = RestingPublisher(settings)
        self._broker_timeout_s = settings.broker_timeout_s
        self._pool = pool
        self._engines = engines
        self._device_lock = device_lock
        self._open = threading.Event()
        self._open.set()

    def serve(self) -> None:
        """Serve requests while the lane is open, for ever."""
        while True:
            self._open.wait()
            self.should_stop = False
            self.run()

    def set_open(self, is_open: bool) -> None:  # noqa: FBT001 - a setter
        """Take requests, or after the one at hand no more; said again with every heartbeat."""
        if is_open:
            self._open.set()
        else:
            self._open.clear()
            self.should_stop = True

    def close(self) -> None:
        """Close the connection for replies, once ``run`` has ended."""
        self._replies.close()

    def get_consumers(self, Consumer: Callable[..., Any], channel: Any) -> list[Any]:  # noqa: ARG002, N803
        """One request at a time: what waits is better taken by another worker of the pool."""
        queue = sync_lane_queue(self._pool)
        return [Consumer(queues=[queue], on_message=self._on_message, accept=["json"], prefetch_count=1)]

    def _on_message(self, message: Message) -> None:
        """Answer, then acknowledge. A redelivered request killed a worker: it is dropped.

        One that waited past its time was dropped by the broker already.
        """
        if not message.delivery_info.get("redelivered"):
            self._reply(message, self._answer(message.payload))
        message.ack()

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run a request; a bug it meets costs that request its answer, not the lane its thread.

        Raises:
            DeviceLost: only a new process can go on.
        """
        try:
            outcome = self._run(request)
        except DeviceLost:
            raise
        except NightshiftError as error:
            log.warning("sync_request_failed", code=error.code, error=error.message)
            return _UNUSABLE
        except Exception:
            log.exception("sync_request_failed", code="internal")
            return _UNUSABLE
        if isinstance(outcome, ItemFailed):
            return {"error": {"code": outcome.code, "message": outcome.message}}
        return _as_reply(outcome)

    def _run(self, request: dict[str, Any]) -> ItemOutcome:
        item = InputItem(index=0, custom_id="sync", body=request["body"], attempt=1)
        try:
            engine = self._engines.engine(
                model=request["model"], version=request["version"], endpoint=request["endpoint"]
            )
        except ModelNotFound as problem:
            return ItemFailed(0, ItemErrorCode.MODEL_NOT_FOUND, problem.message)
        ends_at = time.monotonic() + request["timeout_s"]
        runner = WindowRunner(
            engine,
            hold_device=self._device_lock.urgent,
            should_stop=lambda: time.monotonic() > ends_at,
            stats=RunStats(),
            limits=DeviceLimits(hang_timeout_s=max(request["timeout_s"], self._hang_timeout_s)),
            device_pass=self._device_pass,
        )
        answered = runner.forward(engine.prepare([item]))
        too_late = ItemFailed(0, ItemErrorCode.ITEM_TIMEOUT, "the deadline passed while the item ran")
        return next(runner.finish(answered), too_late)

    def _reply(self, message: Message, reply: dict[str, Any]) -> None:
        properties = message.properties
        try:
            self._replies.publish(
                reply,
                timeout_s=self._broker_timeout_s,
                exchange="",
                routing_key=properties["reply_to"],
                correlation_id=properties["correlation_id"],
            )
        except BrokerUnavailable as error:
            log.warning("sync_reply_lost", error=error.message)


def _as_reply(outcome: ItemSucceeded) -> dict[str, Any]:
    return {
        "body": outcome.body.decode(),
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
    }
