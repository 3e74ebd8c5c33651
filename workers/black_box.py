"""Remembers beyond a process's death what it had on its device, and ends a process that hangs there.

The box is memory that a worker's parent shares with its children. A child notes each micro-batch in it; whoever comes
after a child that died reads from it which items were on the device, so that the item that kills is found after a few
deaths however large its chunk is. The parent's watchdog reads it too: it needs nothing of the child, not even the
interpreter's lock, which native code that hangs may hold for ever.
"""

from __future__ import annotations

import math
import mmap
import os
import signal
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from app.domain.items import ItemErrorCode
from app.ports import LastWords

log = structlog.get_logger(__name__)

MOST_ITEMS = 8192
"""Of a larger micro-batch the items are not noted."""
GRACE_S = 2.0
"""Added to what a micro-batch may take before its process is ended: an engine that can stop by itself has done so."""
LOOK_EVERY_S = 0.5
_CHUNK, _PID, _BUSY, _HUNG, _LIMIT_S, _SINCE_S, _HEARD_S, _N_ITEMS, _FIRST_ITEM = range(9)
_WORD_BYTES = 8


class BlackBox:
    """Made before the fork. Written by one child at a time, word by word and without locks."""

    def __init__(self, *, deaf_s: float = math.inf) -> None:
        """Make an empty box.

        Args:
            deaf_s: how long a micro-batch may keep every other thread of its process from running.
        """
        self._deaf_s = deaf_s
        shared = memoryview(mmap.mmap(-1, _WORD_BYTES * (_FIRST_ITEM + MOST_ITEMS)))
        self._words = shared.cast("q")
        self._seconds = shared.cast("d")

    def last_words(self, chunk_id: int) -> LastWords | None:
        """What the process before this one was doing to a chunk when it ended; None where it was not its chunk."""
        words = self._words
        if words[_CHUNK] != chunk_id or words[_PID] == os.getpid():
            return None
        indexes = words[_FIRST_ITEM : _FIRST_ITEM + words[_N_ITEMS]].tolist() if words[_BUSY] else []
        return LastWords(cause=ItemErrorCode.ITEM_TIMEOUT if words[_HUNG] else None, indexes=frozenset(indexes))

    def begin(self, chunk_id: int) -> None:
        """From now on notes are this process's, about this chunk."""
        self._words[_BUSY] = self._words[_HUNG] = self._words[_N_ITEMS] = 0
        self._words[_PID] = os.getpid()
        self._words[_CHUNK] = chunk_id

    @contextmanager
    def on_device(self, indexes: Sequence[int], *, limit_s: float) -> Iterator[None]:
        """Note the items of a micro-batch while it is on the device.

        Args:
            limit_s: how long the device may be silent before the watchdog ends this process.
        """
        words = self._words
        noted = indexes if len(indexes) <= MOST_ITEMS else ()
        words[_FIRST_ITEM : _FIRST_ITEM + len(noted)] = memoryview(array("q", noted))
        words[_N_ITEMS] = len(noted)
        self.still_alive()
        self.threads_run()
        self._seconds[_LIMIT_S] = limit_s + GRACE_S
        words[_BUSY] = 1
        try:
            yield
        finally:
            words[_BUSY] = 0

    def still_alive(self) -> None:
        """The engine was heard of: what it does takes long, but it does not hang."""
        self._seconds[_SINCE_S] = time.monotonic()

    def threads_run(self) -> None:
        """Another thread than the engine's ran: nothing holds the interpreter's lock."""
        self._seconds[_HEARD_S] = time.monotonic()

    def hanging(self) -> tuple[int, float] | None:
        """The process that has been silent for too long and since when, on the clock of ``time.monotonic``."""
        limit_s, since_s, heard_s = (self._seconds[place] for place in (_LIMIT_S, _SINCE_S, _HEARD_S))
        now_s = time.monotonic()
        if not self._words[_BUSY] or (now_s - since_s < limit_s and now_s - heard_s < self._deaf_s):
            return None
        return self._words[_PID], max(since_s, heard_s)

    def note_hang(self) -> None:
        """The process is about to be ended because it hangs."""
        self._words[_HUNG] = 1


class Watchdog:
    """A thread of the parent that ends a child which hangs; Celery puts a new one in its place."""

    def __init__(self, box: BlackBox, *, is_child: Callable[[int], bool] | None = None) -> None:
        self._box = box
        self._is_child = is_child or is_child_of_this_process
        self._suspect: tuple[int, float] | None = None

    def start(self, **_signal: object) -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def look(self) -> bool:
        """Look once; whether a process was told to end. It is, once it was seen hanging at the same place twice."""
        found = self._box.hanging()
        suspected, self._suspect = self._suspect, found
        if found is None or found != suspected:
            return False
        pid, since_s = found
        if not self._is_child(pid):
            return False
        self._box.note_hang()
        log.error("worker_hangs", pid=pid, silent_s=round(time.monotonic() - since_s, 1))
        os.kill(pid, signal.SIGKILL)
        return True

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            self.look()


def is_child_of_this_process(pid: int) -> bool:
    """Whether a process is ours to end; one that is gone is not, nor one that was given its number since."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    state, parent = stat.rpartition(")")[2].split()[:2]
    return state != "Z" and int(parent) == os.getpid()
