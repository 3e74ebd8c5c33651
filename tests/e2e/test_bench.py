"""The bench in its quick form: that it runs, checks what comes back, and keeps its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from checker import Checker
from documentation import ROOT
from running_stack import RunningStack

from app.wiring import build_wiring
from config.settings import Settings


@pytest.mark.slow
def test_the_bench_measures_a_running_stack_and_keeps_its_figures(stack: RunningStack, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    environment = {**os.environ, **stack.env, "PYTHONPATH": str(ROOT / "docker" / "local")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--quick", "--running", "--json", str(figures)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert report["embeddings"]["smallest_cosine"] >= 0.9999
    assert report["echo"]["run"]["values"]
    assert report["latency"]["submit"]["values"]
    wiring = build_wiring(Settings.from_environ(stack.settings))
    Checker(wiring.database, wiring.storage).check_all()
    wiring.database.close()
