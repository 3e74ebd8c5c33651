"""What the kernel says about memory: what a process holds, and how many processes were killed for the want of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
_WHOLE_MACHINE = Path("/proc/vmstat")
_OWN_SCORE = Path("/proc/self/oom_score_adj")
_COUNTER = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_KILL_ME_BEFORE_OTHERS = "500"


def resident_bytes(pid: int) -> int:
    """Physical memory that a process holds; 0 for one that is gone."""
    try:
        n_pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return n_pages * os.sysconf("SC_PAGESIZE")


def count_oom_kills(*, groups: Path = _GROUPS, own_groups: Path = _OWN_GROUPS, machine: Path = _WHOLE_MACHINE) -> int:
    """How many processes the kernel has killed for memory: in our control group, else on the whole machine.

    0 where neither can be read, so that a death is never put down to memory without a witness.
    Source: ``memory.events`` (cgroup v2), ``memory.oom_control`` (v1), ``oom_kill`` of ``/proc/vmstat``.
    """
    for path in (*_counters_of(groups, own_groups), machine):
        with contextlib.suppress(OSError):
            if found := _COUNTER.search(path.read_text(encoding="ascii")):
                return int(found.group(1))
    return 0


def offer_to_be_killed_first() -> None:
    """Have the kernel take this process before its parent, which knows what it did, and before the servers."""
    with contextlib.suppress(OSError):  # a hint: where /proc cannot be written the kernel decides by size alone
        _OWN_SCORE.write_text(_KILL_ME_BEFORE_OTHERS, encoding="ascii")


def _counters_of(groups: Path, own_groups: Path) -> Iterator[Path]:
    """Where the counter of our group may be; in a container its group is often shown as the root."""
    with contextlib.suppress(OSError):
        for line in own_groups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
                yield groups / "memory" / "memory.oom_control"
            elif not controllers:
                yield groups / path.lstrip("/") / "memory.events"
                yield groups / "memory.events"
