"""What the kernel says about memory is read where each kind of control group keeps it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workers.memory import count_oom_kills, resident_bytes

V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"
V2 = "low 0\nhigh 0\nmax 12\noom 5\noom_kill 4\noom_group_kill 0\n"
MACHINE = "nr_free_pages 100\noom_kill 9\n"


@pytest.mark.parametrize(
    ("line", "path", "content", "expected"),
    [
        ("4:memory:/jobs/worker", "memory/jobs/worker/memory.oom_control", V1, 3),
        ("4:memory:/not/seen/from/here", "memory/memory.oom_control", V1, 3),
        ("0::/jobs/worker", "jobs/worker/memory.events", V2, 4),
        ("0::/", "memory.events", V2, 4),
        ("0::/", "somewhere/else", V2, 9),
    ],
)
def test_kills_are_counted_in_our_own_group_and_else_on_the_machine(
    tmp_path: Path, line: str, path: str, content: str, expected: int
) -> None:
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    (tmp_path / "vmstat").write_text(MACHINE)
    counter = tmp_path / "groups" / path
    counter.parent.mkdir(parents=True)
    counter.write_text(content)
    found = count_oom_kills(groups=tmp_path / "groups", own_groups=tmp_path / "cgroup", machine=tmp_path / "vmstat")
    assert found == expected


def test_where_nothing_can_be_read_nobody_was_killed(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert count_oom_kills(groups=nowhere, own_groups=nowhere, machine=nowhere) == 0


def test_a_process_holds_what_it_wrote_to() -> None:
    before = resident_bytes(os.getpid())
    held = bytearray(b"x") * (64 * 2**20)
    assert resident_bytes(os.getpid()) - before > 32 * 2**20
    assert len(held) == 64 * 2**20
    assert resident_bytes(2**22 + 1) == 0
