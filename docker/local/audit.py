"""Looks for known holes in what the locks pin: ``make audit``.

With ``pip-audit`` on the path (``pipx install pip-audit``) every pinned version is looked up; where its service cannot
be reached that is told, not passed over. Besides, locks that nobody has touched for a quarter of a year are told: what
is not upgraded is not mended. Not part of ``make test``, which must not fail because a day has passed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# It holds the others by reference.
LOCK = ROOT / "config" / "lock" / "dev.txt"
OLDEST_DAYS = 90
DAY_S = 86_400


def main() -> None:
    """Say what was found; exit 1 where something must be done."""
    problems = [problem for problem in (age_problem(changed_at_s(), now_s=time.time()), known_holes()) if problem]
    for problem in problems:
        print(f"audit: {problem}", file=sys.stderr)
    if problems:
        sys.exit(1)
    print("audit: no known hole, and the locks are fresh")


def changed_at_s() -> float:
    """When the locks were last changed, in seconds of the epoch, by the history of the checkout."""
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct", "--", "config/lock"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def age_problem(changed_at_s: float, *, now_s: float) -> str | None:
    """What is wrong with locks that were changed then; None where nothing is."""
    age_days = (now_s - changed_at_s) / DAY_S
    if age_days <= OLDEST_DAYS:
        return None
    return f"the locks are {age_days:.0f} days old: `pip install --upgrade` what should move, then `make lock`"


def known_holes() -> str | None:
    """What pip-audit finds; None where it finds nothing."""
    if not shutil.which("pip-audit"):
        return "pip-audit is not installed, so nothing was looked up: `pipx install pip-audit`"
    command = ["pip-audit", "--no-deps", "--disable-pip", "--progress-spinner=off", "--requirement", str(LOCK)]
    if subprocess.run(command).returncode == 0:
        return None
    return "pip-audit found holes, or could not look; its message is above"


if __name__ == "__main__":
    main()
