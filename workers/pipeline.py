"""Runs items through an engine, its three steps overlapping in three threads of one process.

One thread reads and prepares windows of items, one keeps the device busy, and the caller's own thread
finishes answers as it asks for them. At most a few windows exist at once, however many items there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.errors import ModelNotFound
from app.observability.tracing import stage
from app.ports import RunRequest
from workers.black_box import BlackBox
from workers.channel import Channel
from workers.device_lock import DeviceLock
from workers.engines.base import AnyEngine, Window
from workers.engines.registry import EngineRegistry
from workers.window_runner import AnsweredWindow, DeviceLimits, WindowRunner

FIRST_WINDOW_ITEMS = 256
"""The first window is small, so that the device starts at once."""
WINDOW_CHARACTERS = 4_000_000
INPUT_OVERHEAD_CHARACTERS = 256
WINDOWS_WAITING = 1
TURN_LOOK_S = 0.05
HANG_TIMEOUT_S = 300.0


class PipelineRunner:
    """The ``ItemRunner`` of a worker."""

    def __init__(
        self,
        engines: EngineRegistry,
        device_lock: DeviceLock,
        *,
        black_box: BlackBox | None = None,
        hang_timeout_s: float = HANG_TIMEOUT_S,
    ) -> None:
        """Bind engines and device.

        Args:
            black_box: where each micro-batch is noted; None where nobody would read it.
            hang_timeout_s: how long the device may be silent before its process is ended.
        """
        self._engines = engines
        self._device_lock = device_lock
        self._black_box = black_box
        self._hang_timeout_s = hang_timeout_s
        self._turn = threading.Lock()

    def run(self, request: RunRequest) -> Iterator[ItemOutcome]:
        """Yield exactly one outcome per item, in any order; fewer only once ``should_stop()`` is true.

        Of two runs at once the second prepares its first window and has the device when the first is done with it.

        Raises:
            DeviceLost: only a new process can go on.
            ModelUnloadable: the installation is at fault, not the items.
        """
        try:
            engine = self._engines.engine(model=request.model, version=request.version, endpoint=request.endpoint)
        except ModelNotFound as problem:
            return _refuse_all(request.items, problem)
        engine = engine.within(request.item_timeout_s)
        item_timeout_s = None if engine.keeps_item_timeout else request.item_timeout_s
        limits = DeviceLimits(item_timeout_s, self._hang_timeout_s)
        return _Run(engine, self._device_lock, request, limits, self._black_box, self._turn).outcomes()


def _refuse_all(items: Iterable[InputItem], problem: ModelNotFound) -> Iterator[ItemOutcome]:
    for item in items:
        yield ItemFailed(index=item.index, code=ItemErrorCode.MODEL_NOT_FOUND, message=problem.message)


class _Run:
    """One call of ``PipelineRunner.run``."""

    def __init__(
        self,
        engine: AnyEngine,
        device_lock: DeviceLock,
        request: RunRequest,
        limits: DeviceLimits,
        black_box: BlackBox | None,
        turn: threading.Lock,
    ) -> None:
        self._engine = engine
        self._request = request
        self._turn = turn
        self._closed = threading.Event()
        self._runner = WindowRunner(
            engine,
            hold_device=device_lock.bulk,
            should_stop=self._stopping,
            stats=request.stats,
            limits=limits,
            device_pass=black_box,
        )
        self._prepared: Channel[Window] = Channel(WINDOWS_WAITING)
        self._answered: Channel[AnsweredWindow] = Channel(WINDOWS_WAITING)

    def outcomes(self) -> Iterator[ItemOutcome]:
        """Start the threads, yield outcomes, and end the threads whichever way this ends."""
        threads = [
            _thread("prepare", partial(self._prepared.write_all, self._prepare)),
            _thread("device", partial(self._answered.write_all, self._forward_all)),
        ]
        for thread in threads:
            thread.start()
        try:
            for answered in self._answered:
                yield from self._runner.finish(answered)
        finally:
            self._closed.set()
            self._answered.abandon()
            self._prepared.abandon()
            for thread in threads:
                thread.join()

    def _prepare(self) -> Iterator[Window]:
        for window_items in windows(self._request.items, most_items=self._engine.window_items):
            with stage("prepare", n_items=len(window_items)):
                window = self._engine.prepare(window_items, on_oversize=self._request.on_oversize)
            yield window

    def _forward_all(self) -> Iterator[AnsweredWindow]:
        try:
            if self._takes_turn():
                yield from self._forward_in_turn()
        finally:
            self._prepared.abandon()

    def _takes_turn(self) -> bool:
        """Wait until no other run has the device; False where this one is to stop before that."""
        while not self._turn.acquire(timeout=TURN_LOOK_S):
            if self._stopping():
                return False
        return True

    def _forward_in_turn(self) -> Iterator[AnsweredWindow]:
        try:
            self._request.on_turn()
            for window in self._prepared:
                with stage("forward", n_items=len(window.items)):
                    answered = self._runner.forward(window)
                yield answered
                if self._stopping():
                    return
        finally:
            self._turn.release()

    def _stopping(self) -> bool:
        return self._closed.is_set() or self._request.should_stop()


def _thread(name: str, work: Callable[[], None]) -> threading.Thread:
    """A thread whose log lines and spans carry the ids of its maker's."""
    return threading.Thread(target=copy_context().run, args=(work,), name=name)


def windows(items: Iterable[InputItem], *, most_items: int) -> Iterator[Sequence[InputItem]]:
    """Cut items into runs that are bounded in number and in size; the first is small."""
    window: list[InputItem] = []
    size = 0
    limit = min(FIRST_WINDOW_ITEMS, most_items)
    for item in items:
        weight = _rough_size(item.body.get("input"))
        if window and (len(window) >= limit or size + weight > WINDOW_CHARACTERS):
            yield window
            window, size, limit = [], 0, most_items
        window.append(item)
        size += weight
    if window:
        yield window


def _rough_size(value: Any) -> int:
    """Characters of an input, plus what each of its parts will take up as an answer."""
    if isinstance(value, str):
        return len(value) + INPUT_OVERHEAD_CHARACTERS
    if isinstance(value, list):
        return INPUT_OVERHEAD_CHARACTERS + sum(map(_size_of_part, value))
    return INPUT_OVERHEAD_CHARACTERS


def _size_of_part(value: Any) -> int:
    if isinstance(value, str | list):
        return INPUT_OVERHEAD_CHARACTERS + len(value)
    return 1
