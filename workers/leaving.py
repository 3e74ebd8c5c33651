"""Tells the child of a device worker that its parent was told to end."""

from __future__ import annotations

import mmap


class Leaving:
    """One byte that a parent and the children it forks later share.

    Celery lets a running task come to its end, however long that takes, and tells its children nothing. Neither side
    takes a lock here, so a signal handler may set it and a child that is killed leaves nobody waiting.
    """

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, 1)

    def set(self, **_signal: object) -> None:
        """Say it; for ever."""
        self._shared[0] = 1

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._shared[0] == 1
