"""Who may use the device now: a chunk's next micro-batch, or a request that somebody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

URGENT_IN_A_ROW = 8
"""After so many urgent passes a waiting chunk gets one, so that it never starves."""


class DeviceLock:
    """A lock that lets urgent passes go first."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held = False
        self._urgent_waiting = 0
        self._bulk_waiting = 0
        self._urgent_in_a_row = 0

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Hold the device for a request that a client waits for."""
        with self._changed:
            self._urgent_waiting += 1
            self._changed.wait_for(self._urgent_may_go)
            self._urgent_waiting -= 1
            self._urgent_in_a_row += 1
            self._held = True
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Hold the device for one micro-batch of a chunk."""
        with self._changed:
            self._bulk_waiting += 1
            self._changed.wait_for(self._bulk_may_go)
            self._bulk_waiting -= 1
            self._urgent_in_a_row = 0
            self._held = True
        try:
            yield
        finally:
            self._release()

    def _urgent_may_go(self) -> bool:
        owed_to_bulk = self._bulk_waiting > 0 and self._urgent_in_a_row >= URGENT_IN_A_ROW
        return not self._held and not owed_to_bulk

    def _bulk_may_go(self) -> bool:
        owed_to_bulk = self._urgent_in_a_row >= URGENT_IN_A_ROW
        return not self._held and (self._urgent_waiting == 0 or owed_to_bulk)

    def _release(self) -> None:
        with self._changed:
            self._held = False
            self._changed.notify_all()
