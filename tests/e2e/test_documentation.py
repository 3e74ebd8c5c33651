"""Every command and every example of README and docs runs, in its order, against the whole stack.

A page's blocks share one folder, which looks like a checkout: it has ``.nightshift`` and ``.venv``. ``make`` is asked
whether it knows the target and how it would run it (``--dry-run``); what the targets do is tested on its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import PAGES, ROOT, RUN, Block, blocks_of, name_of
from running_stack import RunningStack

PATIENCE_S = 90
MAKE = 'make() { command make --dry-run --directory "$CHECKOUT" "$@"; }\n'
# It takes two stacks, and has a test of its own.
BACKUP = ROOT / "docs" / "backup.md"
PAGES_THAT_RUN = [page for page in PAGES if page != BACKUP and any(block.language in RUN for block in blocks_of(page))]


@pytest.fixture
def folder(stack: RunningStack, tmp_path: Path) -> Path:
    """An empty folder in which the stack and the environment lie where a checkout has them."""
    (tmp_path / ".nightshift").symlink_to(stack.stack.home.root)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def environment(stack: RunningStack) -> dict[str, str]:
    """What a shell has after `. .nightshift/env` and `. .venv/bin/activate`, and nothing of the tests' other stack."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NIGHTSHIFT_", "MAKE"))}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = str(stack.stack.home.root)
    return {**inherited, **stack.env, "PATH": path, "NIGHTSHIFT_HOME": home, "CHECKOUT": str(ROOT)}


def _argv(block: Block) -> list[str]:
    if block.language == "python":
        return [sys.executable, "-c", block.text]
    return ["bash", "-eu", "-o", "pipefail", "-c", MAKE + block.text]


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=name_of)
def test_every_block_of_a_page_runs(page: Path, folder: Path, environment: dict[str, str]) -> None:
    for block in blocks_of(page):
        if block.language not in RUN:
            continue
        if "curl " in block.text and shutil.which("curl") is None:
            pytest.skip(f"{block} needs curl, which is not installed")
        done = subprocess.run(
            _argv(block), cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE_S
        )
        assert done.returncode == 0, f"{block}\n{block.text}\n{done.stdout}\n{done.stderr}"
