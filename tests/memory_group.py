"""A control group with little memory, in which the kernel kills; making one needs root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
LEFT_WITHIN_S = 10


@contextmanager
def memory_group(*, limit_bytes: int) -> Iterator[Callable[[], None]]:
    """Make a group; gives what a new process calls to join it."""
    root, limit = (V1, "memory.limit_in_bytes") if V1.is_dir() else (V2, "memory.max")
    group = root / f"nightshift-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(limit_bytes), encoding="ascii")
    except OSError as error:
        pytest.skip(f"a control group with a memory limit cannot be made here ({error}): run `make chaos` as root")
    try:
        yield lambda: _join(group)
    finally:
        deadline_s = time.monotonic() + LEFT_WITHIN_S
        while (group / "cgroup.procs").read_text(encoding="ascii") and time.monotonic() < deadline_s:
            time.sleep(0.1)
        group.rmdir()


def _join(group: Path) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
