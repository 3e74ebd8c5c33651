"""``make test``: every check of the project, one after the other, each named before it runs."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TWO_AT_ONCE = ("--numprocesses", "2", "--dist", "loadgroup")
"""Most tests wait for servers most of their time; ``tests/conftest.py`` says which ones run beside which."""


def main() -> None:
    """Run all checks, also past a failing one; exit 1 where any failed."""
    failed = [name for name, argv in checks(sys.argv[1:]) if not passes(name, argv)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def checks(pytest_arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Name and command of each, cheapest first."""
    return [
        ("ruff", [sys.executable, "-m", "ruff", "check", "--config", "config/ruff.toml", "."]),
        ("mypy", [sys.executable, "-m", "mypy"]),
        ("import-linter", [str(BIN / "lint-imports"), "--config", "setup.cfg"]),
        ("pytest", [sys.executable, "-m", "pytest", *TWO_AT_ONCE, *pytest_arguments]),
    ]


def passes(name: str, argv: Sequence[str]) -> bool:
    """Run one check in the open."""
    print(f"\n--- {name}: {' '.join(argv[1:])}", flush=True)
    started = time.monotonic()
    ok = subprocess.run(argv, cwd=ROOT).returncode == 0
    print(f"--- {name}: {'ok' if ok else 'FAILED'} after {time.monotonic() - started:.1f} s", flush=True)
    return ok


if __name__ == "__main__":
    main()
