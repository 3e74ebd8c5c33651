"""Who may use the device now: a chunk's next micro-batch, or a request that somebody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

URGENT_IN_A_ROW = 8
"""After so many urgent passes a waiting chunk gets one, so that it never starves."""


class DeviceLock:
    """A lock that lets urgent passes go first."""

    def __init__(self, *, shared: bool = False) -> None:
        """Make the lock of one device.

        Args:
            shared: whether an urgent pass may run beside the bulk pass that is on the device already, as on a CPU,
                where waiting for it would take longer than both together; the next bulk pass waits.
        """
        self._changed = threading.Condition()
        self._shared = shared
        self._bulk_held = False
        self._urgent_held = False
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
            self._urgent_held = True
        try:
            yield
        finally:
            with self._changed:
                self._urgent_held = False
                self._changed.notify_all()

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Hold the device for one micro-batch of a chunk."""
        with self._changed:
            self._bulk_waiting += 1
            self._changed.wait_for(self._bulk_may_go)
            self._bulk_waiting -= 1
            self._urgent_in_a_row = 0
            self._bulk_held = True
        try:
            yield
        finally:
            with self._changed:
                self._bulk_held = False
                self._changed.notify_all()

    def _urgent_may_go(self) -> bool:
        in_the_way = self._urgent_held or (self._bulk_held and not self._shared)
        return not in_the_way and not self._owed_to_bulk()

    def _bulk_may_go(self) -> bool:
        if self._bulk_held or self._urgent_held:
            return False
        return self._urgent_waiting == 0 or self._owed_to_bulk()

    def _owed_to_bulk(self) -> bool:
        return self._bulk_waiting > 0 and self._urgent_in_a_row >= URGENT_IN_A_ROW
