"""A bounded hand-over between two threads that can end, fail or be abandoned without either side hanging."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Value = TypeVar("Value")


class ChannelClosed(Exception):
    """The reader is gone; nothing the writer still makes will be read."""


class Channel(Generic[Value]):
    """One writer, one reader, at most ``capacity`` values between them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: deque[Value] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None

    def put(self, value: Value) -> None:
        """Hand a value over, waiting for room.

        Raises:
            ChannelClosed: the reader abandoned the channel.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or len(self._values) < self._capacity)
            if self._abandoned:
                raise ChannelClosed
            self._values.append(value)
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Value]:
        """Yield values until the writer has ended; raise what made it fail, after the values before that."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._values) or self._ended)
                if not self._values:
                    break
                value = self._values.popleft()
                self._changed.notify_all()
            yield value
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """Reader's side: read no more; a writer that waits is let go."""
        with self._changed:
            self._abandoned = True
            self._values.clear()
            self._changed.notify_all()

    def write_all(self, produce: Callable[[], Iterator[Value]]) -> None:
        """Writer's side, the whole of its thread: put all that ``produce`` yields, then end or fail."""
        error: BaseException | None = None
        try:
            for value in produce():
                self.put(value)
        except ChannelClosed:
            error = None
        except BaseException as problem:  # noqa: BLE001  whatever it is, the reader raises it
            error = problem
        with self._changed:
            self._error = error
            self._ended = True
            self._changed.notify_all()
