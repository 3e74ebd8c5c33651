"""Takes prepared windows over the device, narrowing failures down to the item at fault."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.domain.items import ItemErrorCode, ItemFailed, ItemOutcome
from app.errors import OutOfDeviceMemory
from app.ports import RunStats
from workers.black_box import DevicePass
from workers.engines.base import UNFINISHED, AnyEngine, Batch, DeviceLost, Stopped, Window

log = structlog.get_logger(__name__)


class TookTooLong(Exception):
    """A batch kept the device for longer than its items may."""


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """How long the device may be kept."""

    item_timeout_s: float | None = None
    """By one item; None for as long as it takes."""
    hang_timeout_s: float = math.inf
    """Without a sign of life, whatever the items may take."""

    def of_batch(self, n_items: int) -> float:
        """What ``n_items`` together may take, in seconds."""
        return math.inf if self.item_timeout_s is None else self.item_timeout_s * n_items

    def of_silence(self, n_items: int) -> float:
        """After how many seconds without a sign of life ``n_items`` are taken to hang."""
        return min(self.of_batch(n_items), max(self.hang_timeout_s, self.item_timeout_s or 0.0))


NO_LIMITS = DeviceLimits()


@dataclass(slots=True)
class AnsweredWindow:
    """A window after the device."""

    window: Window
    answers: list[tuple[Any, Any]] = field(default_factory=list)
    """Batches and what the engine's ``forward`` returned for them."""
    failures: dict[int, ItemFailed] = field(default_factory=dict)
    complete: list[int] = field(default_factory=list)
    """Positions whose every batch was answered; all that were not refused, unless the run was stopped."""


class WindowRunner:
    """An engine together with how it may use the device."""

    def __init__(
        self,
        engine: AnyEngine,
        *,
        hold_device: Callable[[], AbstractContextManager[None]],
        should_stop: Callable[[], bool],
        stats: RunStats,
        limits: DeviceLimits = NO_LIMITS,
        device_pass: DevicePass | None = None,
    ) -> None:
        """Bind an engine to one run.

        Args:
            hold_device: gives the device for one batch; not asked where the engine uses none.
            should_stop: asked before each batch.
            stats: its ``device_s`` grows by the time in ``forward``.
            device_pass: where each batch is noted, for the case that it kills this process or hangs.
        """
        self._engine = engine
        self._hold_device = hold_device if engine.uses_device else nullcontext
        self._should_stop = should_stop
        self._stats = stats
        self._limits = limits
        self._device_pass = device_pass

    def forward(self, window: Window) -> AnsweredWindow:
        """Run a window's batches until they are done or ``should_stop()`` is true."""
        answered = AnsweredWindow(window)
        missing = Counter(position for batch in window.batches for position in set(batch.positions))
        for batch in window.batches:
            if self._should_stop():
                break
            try:
                self._forward_batch(batch, answered)
            except Stopped as stopped:
                if stopped.kept is not None:
                    answered.answers.append(stopped.kept)
                    missing.subtract(set(stopped.kept[0].positions))
                break
            missing.subtract(set(batch.positions))
        answered.complete = [position for position, n_batches in missing.items() if n_batches == 0]
        return answered

    def _forward_batch(self, batch: Batch, answered: AnsweredWindow) -> None:
        """Run a batch; where it fails, run its halves, down to the row at fault."""
        try:
            answered.answers.append((batch, self._on_device(batch, answered.window)))
        except (Stopped, DeviceLost):
            raise
        except Exception as error:  # noqa: BLE001  an engine's library may raise anything about bad data
            halves = batch.halves()
            if halves is None:
                self._record_failure(batch, error, answered)
                return
            for half in halves:
                self._forward_batch(half, answered)

    def _on_device(self, batch: Batch, window: Window) -> Any:
        indexes = [window.items[position].index for position in dict.fromkeys(batch.positions)]
        left_s = self._limits.of_batch(len(indexes))
        while True:
            with self._hold_device(), self._noted(indexes):
                started_s = time.monotonic()
                try:
                    answer = self._forward_in_time(batch, ends_at_s=started_s + left_s)
                finally:
                    used_s = time.monotonic() - started_s
                    self._stats.device_s += used_s
            if answer is not UNFINISHED:
                return answer
            left_s -= used_s

    def _noted(self, indexes: Sequence[int]) -> AbstractContextManager[None]:
        if self._device_pass is None:
            return nullcontext()
        return self._device_pass.on_device(indexes, limit_s=self._limits.of_silence(len(indexes)))

    def _forward_in_time(self, batch: Batch, *, ends_at_s: float) -> Any:
        """Run a batch until its time is over; one that does not ask in between is judged when it comes back."""

        def should_stop() -> bool:
            if self._device_pass is not None:
                self._device_pass.still_alive()
            return self._should_stop() or time.monotonic() >= ends_at_s

        try:
            answer = self._engine.forward(batch, should_stop=should_stop)
        except Stopped as stopped:
            if stopped.kept is not None or self._should_stop():
                raise
            raise TookTooLong from None
        if time.monotonic() >= ends_at_s and batch.halves() is None:
            raise TookTooLong
        return answer

    def _record_failure(self, batch: Batch, error: Exception, answered: AnsweredWindow) -> None:
        code = _code_of(error)
        # What an engine's library says of bad data may quote it.
        log.warning("item_failed_on_device", code=code, error=type(error).__name__, where=_place_of(error))
        for position in batch.positions:
            index = answered.window.items[position].index
            answered.failures[position] = ItemFailed(index=index, code=code, message=_explained(code))

    def finish(self, answered: AnsweredWindow) -> Iterator[ItemOutcome]:
        """Yield one outcome per item of the window; where it was stopped, per item that is decided."""
        complete = [position for position in answered.complete if position not in answered.failures]
        yield from answered.window.refused.values()
        yield from answered.failures.values()
        yield from self._engine.finish(answered.window, answered.answers, complete)


def _place_of(error: Exception) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None


def _code_of(error: Exception) -> ItemErrorCode:
    if isinstance(error, TookTooLong):
        return ItemErrorCode.ITEM_TIMEOUT
    if isinstance(error, OutOfDeviceMemory | MemoryError):
        return ItemErrorCode.OUT_OF_MEMORY
    return ItemErrorCode.INTERNAL


def _explained(code: ItemErrorCode) -> str:
    if code is ItemErrorCode.ITEM_TIMEOUT:
        return "the item kept the device for longer than item_timeout_s; give it more time or make it shorter"
    if code is ItemErrorCode.OUT_OF_MEMORY:
        return "the item alone did not fit into the device's memory; make it shorter"
    return "the model failed on this item alone; its neighbours ran"
