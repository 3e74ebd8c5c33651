"""No process asks its own clock for the time of day: leases, deadlines and expiry follow the database's ``now()``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLOCKS = {"time.time", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
# It speaks to a person, about the person's time.
CLI = ROOT / "app" / "cli"
# What an answer shows as the moment of its making decides nothing.
ANSWER_STAMP = ROOT / "workers" / "engines" / "answer_stamp.py"


def test_nothing_that_decides_anything_reads_the_clock_of_its_machine() -> None:
    packages = [path for package in ("app", "tasks", "workers") for path in (ROOT / package).rglob("*.py")]
    sources = [path for path in packages if CLI not in path.parents and path != ANSWER_STAMP]
    assert sources
    assert [found for path in sources for found in _clock_reads(path)] == []


def _clock_reads(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in CLOCKS:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)}"
