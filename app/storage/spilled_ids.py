"""Which ``custom_id`` stood on which line, for an input with too many of them to keep in memory.

Records go to files on local disk by the first byte of their digest, so that all that could be equal lie in one file.
At the end one file after another is read into memory: two passes over 24 bytes a line, and no sorting.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

N_FILES = 64
BUFFER_BYTES = 64 * 1024
_RECORD = struct.Struct("<16sQ")
_RECORDS_AT_ONCE = 4096


@contextmanager
def spilled_ids(tick: Callable[[], None]) -> Iterator[SpilledIds]:
    """Remember ids in temporary files, which are gone when this is left.

    Args:
        tick: called now and then while the files are read again, which takes a while.
    """
    with ExitStack() as stack:
        yield SpilledIds([stack.enter_context(_temporary()) for _ in range(N_FILES)], tick)


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="nightshift-ids-", buffering=BUFFER_BYTES)


class SpilledIds:
    """See ``app.domain.input_lines.SeenIds``.

    Memory: a buffer for each file while lines are added, then a 64th of all digests, about 100 bytes each.
    """

    def __init__(self, files: Sequence[IO[bytes]], tick: Callable[[], None]) -> None:
        self._files = files
        self._tick = tick

    def add(self, digest: bytes, number: int) -> None:
        """Note a line; whether it is a repeat is told at the end."""
        self._files[digest[0] % N_FILES].write(_RECORD.pack(digest, number))

    def repeats(self) -> Iterator[tuple[int, int]]:
        """(line, first line) of every repeat; one file after another, in the order of lines within each."""
        for file in self._files:
            file.seek(0)
            first_seen: dict[bytes, int] = {}
            for digest, number in self._records(file):
                first = first_seen.setdefault(digest, number)
                if first != number:
                    yield number, first

    def _records(self, file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
        while block := file.read(_RECORD.size * _RECORDS_AT_ONCE):
            yield from _RECORD.iter_unpack(block)
            self._tick()
