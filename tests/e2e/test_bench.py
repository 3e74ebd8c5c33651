"""The bench in its quick form: that it runs, checks what comes back, and keeps its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import ROOT
from running_stack import RunningStack

PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("docker/local", "tests"))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_bench_measures_a_running_stack_checks_it_and_keeps_its_figures(
    stack: RunningStack, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--home", str(stack.stack.home.root), "--figures", figures],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PATHS},
        capture_output=True,
        text=True,
        timeout=380,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured = json.loads(figures.read_text(encoding="utf-8"))["measured"]
    assert measured["short.cosine"]["row"]["sample"]["values"][0] >= 0.9999
    parts = {key.partition(".")[0] for key in measured}
    assert parts >= {"short", "mixed", "submit", "sync", "echo", "size", "transfer", "memory", "fair", "validate"}
    assert done.stdout.count("found every promise kept") == 8
