"""Remembers beyond a process's death what it had on its device, and ends a process that hangs or eats all memory.

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
from workers.memory import count_oom_kills, resident_bytes

log = structlog.get_logger(__name__)

MOST_ITEMS = 8192
"""Of a larger micro-batch the items are not noted."""
GRACE_S = 2.0
"""Added to what a micro-batch may take before its process is ended: an engine that can stop by itself has done so."""
LOOK_EVERY_S = 0.5
_CHUNK, _PID, _BUSY, _CAUSE, _N_OOM_KILLS, _LIMIT_S, _SINCE_S, _HEARD_S, _N_ITEMS, _FIRST_ITEM = range(10)
_WORD_BYTES = 8
_CAUSES = (None, ItemErrorCode.ITEM_TIMEOUT, ItemErrorCode.OUT_OF_MEMORY)
"""Why the watchdog ended a process; the box holds the place in here."""


class DevicePass:
    """What is on the device now, noted for others. Written by one child at a time, word by word and without locks."""

    def __init__(self, *, deaf_s: float = math.inf) -> None:
        """Make an empty note, before the fork.

        Args:
            deaf_s: how long a micro-batch may keep every other thread of its process from running.
        """
        self._deaf_s = deaf_s
        shared = memoryview(mmap.mmap(-1, _WORD_BYTES * (_FIRST_ITEM + MOST_ITEMS)))
        self._words = shared.cast("q")
        self._seconds = shared.cast("d")

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
        words[_PID] = os.getpid()
        words[_CAUSE] = 0
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

    @property
    def pid(self) -> int:
        """The process that wrote last; 0 where none did."""
        return self._words[_PID]

    @property
    def is_busy(self) -> bool:
        """Whether something is on the device, or was when its process ended."""
        return bool(self._words[_BUSY])

    @property
    def cause(self) -> ItemErrorCode | None:
        """Why the process was ended; None where nobody ended it."""
        return _CAUSES[self._words[_CAUSE]]

    def note_end(self, cause: ItemErrorCode) -> None:
        """The process is about to be ended."""
        self._words[_CAUSE] = _CAUSES.index(cause)


class BlackBox(DevicePass):
    """The passes of chunks, and beside them those of the sync lane."""

    def __init__(self, *, deaf_s: float = math.inf) -> None:
        """Make an empty box; see ``DevicePass``."""
        super().__init__(deaf_s=deaf_s)
        self.lane = DevicePass(deaf_s=deaf_s)
        self._inherited: tuple[int, LastWords] | None = None

    def last_words(self, chunk_id: int) -> LastWords | None:
        """What the process before this one was doing to a chunk when it ended; None where it was not its chunk.

        It may have held two chunks, and the one that was not on the device may come first: what is known of the other
        is kept until that one comes.
        """
        if self.pid != os.getpid():
            return self._words_about(chunk_id)
        inherited = self._inherited
        if inherited is None or inherited[0] != chunk_id:
            return None
        self._inherited = None
        return inherited[1]

    def _words_about(self, chunk_id: int) -> LastWords | None:
        words = self._words
        if words[_CHUNK] != chunk_id:
            return None
        if self._lane_is_to_blame():
            return LastWords(cause=None, indexes=frozenset(), blames_the_chunk=False)
        indexes = words[_FIRST_ITEM : _FIRST_ITEM + words[_N_ITEMS]].tolist() if self.is_busy else []
        return LastWords(cause=self.cause or self._killed_for_memory(), indexes=frozenset(indexes))

    def begin(self, chunk_id: int) -> None:
        """From now on notes are this process's, about this chunk."""
        words = self._words
        if self.pid not in (0, os.getpid()):
            earlier = self._words_about(words[_CHUNK])
            self._inherited = None if earlier is None or words[_CHUNK] == chunk_id else (words[_CHUNK], earlier)
        words[_BUSY] = words[_CAUSE] = words[_N_ITEMS] = 0
        words[_N_OOM_KILLS] = count_oom_kills()
        words[_PID] = os.getpid()
        words[_CHUNK] = chunk_id

    def threads_run(self) -> None:
        """Another thread than an engine's ran: nothing holds the interpreter's lock."""
        super().threads_run()
        self.lane.threads_run()

    def _lane_is_to_blame(self) -> bool:
        """Whether a request of the sync lane was on the device when the process ended, and no micro-batch."""
        died_in_lane = self.lane.is_busy and self.lane.pid == self.pid
        return died_in_lane and (self.lane.cause is ItemErrorCode.ITEM_TIMEOUT or not self.is_busy)

    def _killed_for_memory(self) -> ItemErrorCode | None:
        """Whether the kernel killed somebody here for memory since the chunk was begun: then it was its process."""
        return ItemErrorCode.OUT_OF_MEMORY if count_oom_kills() > self._words[_N_OOM_KILLS] else None


class Watchdog:
    """A thread of the parent that ends a child which hangs or eats up memory; Celery puts a new one in its place."""

    def __init__(
        self,
        box: BlackBox,
        *,
        memory_limit_bytes: int = 0,
        is_child: Callable[[int], bool] | None = None,
    ) -> None:
        """Watch the processes that write into a box.

        Args:
            memory_limit_bytes: physical memory that the child may hold; 0 leaves it to the kernel.
            is_child: whether a process is ours to end.
        """
        self._box = box
        self._memory_limit_bytes = memory_limit_bytes
        self._is_child = is_child or is_child_of_this_process
        self._suspects: dict[DevicePass, tuple[int, float] | None] = {}

    def start(self, **_signal: object) -> None:
        """Watch from now on."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def look(self) -> bool:
        """Look once; whether a process was told to end."""
        return any([self._end_hanging(self._box), self._end_hanging(self._box.lane), self._end_exhausting()])

    def _end_hanging(self, what: DevicePass) -> bool:
        """End the process of a pass, once it was seen hanging at the same place twice."""
        found = what.hanging()
        suspected, self._suspects[what] = self._suspects.get(what), found
        if found is None or found != suspected:
            return False
        pid, since_s = found
        silent_s = round(time.monotonic() - since_s, 1)
        return self._end(pid, what, ItemErrorCode.ITEM_TIMEOUT, "worker_hangs", silent_s=silent_s)

    def _end_exhausting(self) -> bool:
        """End the child before the kernel has to choose somebody."""
        pid = self._box.pid or self._box.lane.pid
        if not self._memory_limit_bytes or not pid:
            return False
        held_bytes = resident_bytes(pid)
        if held_bytes <= self._memory_limit_bytes:
            return False
        event = "worker_exceeds_memory"
        return self._end(pid, self._box, ItemErrorCode.OUT_OF_MEMORY, event, resident_bytes=held_bytes)

    def _end(self, pid: int, what: DevicePass, cause: ItemErrorCode, event: str, **told: float) -> bool:
        if not self._is_child(pid):
            return False
        what.note_end(cause)
        log.error(event, pid=pid, **told)
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
