"""Serves requests that a client waits for, between the micro-batches of the running chunk.

Those of an engine that takes seconds for each are answered in threads of their own, so that others need not wait for
them. Beside ``app/broker/sync_client.py``, which says what travels in both directions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from kombu import Queue
from kombu.message import Message

from app.broker.connections import broker_connection
from app.broker.reconnecting_consumer import ReconnectingConsumer
from app.broker.resting_publisher import RestingPublisher
from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.errors import BrokerUnavailable, DependencyFailed, ModelNotFound, NightshiftError
from app.ports import RunStats
from config.queues import sync_lane_queue
from config.settings import Settings
from workers.black_box import DevicePass
from workers.device_lock import DeviceLock
from workers.engines.base import AnyEngine, DeviceLost
from workers.engines.registry import EngineRegistry
from workers.window_runner import DeviceLimits, WindowRunner

log = structlog.get_logger(__name__)

_MET_A_BUG = {"error": {"code": ItemErrorCode.INTERNAL, "message": "the model cannot be used at present"}}
_UNUSABLE = {"error": {**_MET_A_BUG["error"], "code": ItemErrorCode.UPSTREAM_UNAVAILABLE}}


MOST_TOGETHER = 16
"""Requests that run as one window at most."""
MOST_BESIDE = 64
"""Windows of requests that take long which run beside one another at most; what comes then waits for one to end."""


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
        self._queue: Queue | None = None
        self._open = threading.Event()
        self._open.set()
        self._threads = ThreadPoolExecutor(MOST_BESIDE, thread_name_prefix="sync-beside")
        self._free = threading.Semaphore(MOST_BESIDE)
        self._lost: DeviceLost | None = None

    def serve(self) -> None:
        """Serve requests while the lane is open, for ever.

        Raises:
            DeviceLost: only a new process can go on.
        """
        while self._lost is None:
            self._open.wait()
            self.should_stop = False
            if self._lost is None:
                self.run()
        raise self._lost

    def set_open(self, is_open: bool) -> None:  # noqa: FBT001 - a setter
        """Take requests, or after the one at hand no more; said again with every heartbeat."""
        if is_open:
            self._open.set()
        else:
            self._open.clear()
            self.should_stop = True

    def close(self) -> None:
        """Wait for what is still being answered and close the connection for replies, once ``run`` has ended."""
        self._threads.shutdown()
        self._replies.close()

    def get_consumers(self, Consumer: Callable[..., Any], channel: Any) -> list[Any]:  # noqa: N803
        """One request at a time: what waits is better taken by another worker of the pool."""
        self._queue = sync_lane_queue(self._pool)(channel)
        return [Consumer(queues=[self._queue], on_message=self._on_message, accept=["json"], prefetch_count=1)]

    def _on_message(self, message: Message) -> None:
        """Answer a request, and whatever else is taken from the queue with it: once, so that others get the rest."""
        taken = [message]
        if not _is_redelivered(message) and self._joins(message.payload):
            taken += self._waiting()
        while taken:
            taken = self._answer_first(taken)

    def _answer_first(self, taken: list[Message]) -> list[Message]:
        """Answer the first of these, with those that may run with it; acknowledge, and return the others.

        A redelivered request killed a worker: it is dropped. One that waited past its time was dropped by the broker
        already.
        """
        first, *others = taken
        if _is_redelivered(first):
            first.ack()
            return others
        together = [first]
        if others and self._joins(first.payload):
            together += [each for each in others if _place(each) == _place(first) and not _is_redelivered(each)]
        if self._takes_long(first.payload) and self._free.acquire(blocking=False):
            # Here, for the channel is this thread's. A redelivered request would only be dropped.
            for each in together:
                each.ack()
            self._threads.submit(self._answer_beside, together)
        else:
            self._answer(together)
            for each in together:
                each.ack()
        return [each for each in others if each not in together]

    def _answer_beside(self, together: Sequence[Message]) -> None:
        """Answer requests in a thread of their own; a lost device ends the lane, and with it the process."""
        try:
            self._answer(together)
        except DeviceLost as error:
            self._lost = error
            self.should_stop = True
        finally:
            self._free.release()

    def _answer(self, together: Sequence[Message]) -> None:
        for each, reply in zip(together, self._answers([each.payload for each in together]), strict=True):
            self._reply(each, reply)

    def _waiting(self) -> list[Message]:
        """What waits in the queue, which means that every worker is busy: at most as much as may run together."""
        waiting: list[Message] = []
        while self._queue is not None and len(waiting) < MOST_TOGETHER - 1:
            message = self._queue.get(no_ack=False, accept=["json"])
            if message is None:
                break
            waiting.append(message)
        return waiting

    def _joins(self, request: dict[str, Any]) -> bool:
        engine = self._engine_or_none(request)
        return engine is not None and engine.joins_requests

    def _takes_long(self, request: dict[str, Any]) -> bool:
        engine = self._engine_or_none(request)
        return engine is not None and engine.takes_long

    def _answers(self, requests: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Run requests of one model together; where that fails, each alone. A bug that a request meets costs it its
        answer, not the lane its thread.

        Raises:
            DeviceLost: only a new process can go on.
        """
        try:
            return [_as_reply(outcome) for outcome in self._run(requests)]
        except DeviceLost:
            raise
        except NightshiftError as error:
            log.warning("sync_request_failed", code=error.code, error=error.message, n_requests=len(requests))
            failed = _UNUSABLE if isinstance(error, DependencyFailed) else _MET_A_BUG
        except Exception:
            log.exception("sync_request_failed", code="internal", n_requests=len(requests))
            failed = _MET_A_BUG
        if len(requests) == 1:
            return [failed]
        return [self._answers([request])[0] for request in requests]

    def _run(self, requests: Sequence[dict[str, Any]]) -> list[ItemOutcome]:
        try:
            engine = self._engine(requests[0]).urgent()
        except ModelNotFound as problem:
            return [ItemFailed(index, ItemErrorCode.MODEL_NOT_FOUND, problem.message) for index in range(len(requests))]
        longest_s = max(request["timeout_s"] for request in requests)
        ends_at = time.monotonic() + longest_s
        runner = WindowRunner(
            engine,
            hold_device=self._device_lock.urgent,
            should_stop=lambda: time.monotonic() > ends_at,
            stats=RunStats(),
            limits=DeviceLimits(hang_timeout_s=max(longest_s, self._hang_timeout_s)),
            # Of those that are beside one another without the device no one is to be watched.
            device_pass=None if engine.takes_long and not engine.uses_device else self._device_pass,
        )
        items = [InputItem(index, "sync", request["body"], attempt=1) for index, request in enumerate(requests)]
        found = {outcome.index: outcome for outcome in runner.finish(runner.forward(engine.prepare(items)))}
        return [found.get(item.index, _too_late(item.index)) for item in items]

    def _engine(self, request: dict[str, Any]) -> AnyEngine:
        return self._engines.engine(model=request["model"], version=request["version"], endpoint=request["endpoint"])

    def _engine_or_none(self, request: dict[str, Any]) -> AnyEngine | None:
        try:
            return self._engine(request)
        except NightshiftError:  # said when it is answered
            return None

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


def _is_redelivered(message: Message) -> bool:
    return bool(message.delivery_info.get("redelivered"))


def _place(message: Message) -> tuple[str, ...]:
    """What two requests must share to run as one."""
    return tuple(message.payload[name] for name in ("model", "version", "endpoint"))


def _too_late(index: int) -> ItemFailed:
    return ItemFailed(index, ItemErrorCode.ITEM_TIMEOUT, "the deadline passed while the item ran")


def _as_reply(outcome: ItemOutcome) -> dict[str, Any]:
    if isinstance(outcome, ItemFailed):
        wait = {} if outcome.retry_after_s is None else {"retry_after_s": outcome.retry_after_s}
        return {"error": {"code": outcome.code, "message": outcome.message, **wait}}
    return {
        "body": outcome.body.decode(),
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
    }
