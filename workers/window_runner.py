"""Takes prepared windows over the device, narrowing failures down to the item at fault."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import structlog

from app.domain.items import ItemErrorCode, ItemFailed, ItemOutcome
from app.errors import OutOfDeviceMemory
from app.ports import RunStats
from workers.engines.base import AnyEngine, Batch, DeviceLost, Stopped, Window

log = structlog.get_logger(__name__)


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
    ) -> None:
        """Bind an engine to one run.

        Args:
            hold_device: gives the device for one batch; not asked where the engine uses none.
            should_stop: asked before each batch.
            stats: its ``device_s`` grows by the time in ``forward``.
        """
        self._engine = engine
        self._hold_device = hold_device if engine.uses_device else nullcontext
        self._should_stop = should_stop
        self._stats = stats

    def forward(self, window: Window) -> AnsweredWindow:
        """Run a window's batches until they are done or ``should_stop()`` is true."""
        answered = AnsweredWindow(window)
        missing = Counter(position for batch in window.batches for position in set(batch.positions))
        for batch in window.batches:
            if self._should_stop():
                break
            try:
                self._forward_batch(batch, answered)
            except Stopped:
                break
            missing.subtract(set(batch.positions))
        answered.complete = [position for position, n_batches in missing.items() if n_batches == 0]
        return answered

    def _forward_batch(self, batch: Batch, answered: AnsweredWindow) -> None:
        """Run a batch; where it fails, run its halves, down to the row at fault."""
        try:
            answered.answers.append((batch, self._on_device(batch)))
        except (Stopped, DeviceLost):
            raise
        except Exception as error:  # noqa: BLE001  an engine's library may raise anything about bad data
            halves = batch.halves()
            if halves is None:
                self._record_failure(batch, error, answered)
                return
            for half in halves:
                self._forward_batch(half, answered)

    def _on_device(self, batch: Batch) -> Any:
        with self._hold_device():
            started_s = time.monotonic()
            try:
                return self._engine.forward(batch, should_stop=self._should_stop)
            finally:
                self._stats.device_s += time.monotonic() - started_s

    def _record_failure(self, batch: Batch, error: Exception, answered: AnsweredWindow) -> None:
        out_of_memory = isinstance(error, OutOfDeviceMemory | MemoryError)
        code = ItemErrorCode.OUT_OF_MEMORY if out_of_memory else ItemErrorCode.INTERNAL
        log.warning("item_failed_on_device", code=code, error=repr(error)[:300])
        for position in batch.positions:
            index = answered.window.items[position].index
            answered.failures[position] = ItemFailed(index=index, code=code, message=_explained(code))

    def finish(self, answered: AnsweredWindow) -> Iterator[ItemOutcome]:
        """Yield one outcome per item of the window; where it was stopped, per item that is decided."""
        complete = [position for position in answered.complete if position not in answered.failures]
        yield from answered.window.refused.values()
        yield from answered.failures.values()
        yield from self._engine.finish(answered.window, answered.answers, complete)


def _explained(code: ItemErrorCode) -> str:
    if code is ItemErrorCode.OUT_OF_MEMORY:
        return "the item alone did not fit into the device's memory; make it shorter"
    return "the model failed on this item alone; its neighbours ran"
