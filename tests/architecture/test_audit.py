"""`make audit` looks at every version that is installed, and tells of locks that nobody touches."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "config" / "lock"
DAY_S = 86_400


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The script, which is run by path."""
    spec = importlib.util.spec_from_file_location("audit_script", ROOT / "docker" / "local" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_line_of_every_lock_is_one_exact_version() -> None:
    for lock in LOCKS.glob("*.txt"):
        lines = [line for line in lock.read_text("utf-8").splitlines() if not line.startswith("#")]
        loose = [line for line in lines if not re.fullmatch(r"-r \w+\.txt|[\w.-]+==[\w.]+( ; .+)?", line)]
        assert loose == [], lock.name


def test_the_lock_that_is_looked_up_holds_all_others(audit: ModuleType) -> None:
    held, next_one = set(), audit.LOCK
    while next_one:
        held.add(next_one)
        base = re.search(r"^-r (\w+\.txt)$", next_one.read_text("utf-8"), re.MULTILINE)
        next_one = LOCKS / base[1] if base else None
    assert held == set(LOCKS.glob("*.txt"))


def test_locks_are_fresh_for_a_quarter_of_a_year_and_old_after_it(audit: ModuleType) -> None:
    assert audit.age_problem(0.0, now_s=audit.OLDEST_DAYS * DAY_S) is None
    assert "91 days old" in audit.age_problem(0.0, now_s=91.0 * DAY_S)


def test_that_nothing_was_looked_up_is_told(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "pip-audit is not installed" in audit.known_holes()


@pytest.mark.parametrize(("found", "problem"), [(0, None), (1, "found holes")])
def test_what_pip_audit_finds_is_told(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: int, problem: str | None
) -> None:
    stand_in = tmp_path / "pip-audit"
    stand_in.write_text(f"#!/bin/sh\nexit {found}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    told = audit.known_holes()
    assert told is None if problem is None else problem in told
