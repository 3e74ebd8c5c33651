"""``docs/backup.md``, done to the letter: a fresh stack serves what was finished and finishes what was not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from documentation import ROOT, blocks_of
from nightshift_local.home import Home
from nightshift_local.stack import Stack
from running_stack import RunningStack

PAGE = ROOT / "docs" / "backup.md"
TENANT = "backup"
N_UNFINISHED = 24
ENDED = {"succeeded", "partially_succeeded", "failed", "expired", "cancelled"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder with the environment where a checkout has it."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    return tmp_path


@pytest.fixture
def fresh_home() -> Iterator[Path]:
    """Where another stack lives for a while."""
    home = Path(tempfile.mkdtemp(prefix="nightshift-restored-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


def _do(section: str, *, folder: Path, settings: dict[str, str]) -> None:
    """Run the blocks of a section with the settings of an installation."""
    content = PAGE.read_text(encoding="utf-8")
    begin = content.count("\n", 0, content.index(f"\n## {section}\n"))
    rest = content.find("\n## ", content.index(f"\n## {section}\n") + 1)
    end = content.count("\n") if rest < 0 else content.count("\n", 0, rest)
    blocks = [block for block in blocks_of(PAGE) if begin < block.line <= end]
    assert [block.language for block in blocks] == ["sh", "python"]
    for block in blocks:
        shell = ["bash", "-eu", "-o", "pipefail", "-c"]
        argv = [*(shell if block.language == "sh" else [sys.executable, "-c"]), block.text]
        done = subprocess.run(argv, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def _submit(client: httpx.Client, n_items: int, *, delay_s: float = 0.0) -> str:
    controls = {"echo": {"delay_s": delay_s}} if delay_s else {}
    inputs = [{"custom_id": f"i{n}", "body": {"input": f"text {n}", **controls}} for n in range(n_items)]
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": inputs}
    return str(client.post("/v1/jobs", json=body).raise_for_status().json()["id"])


def _job(client: httpx.Client, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
    return found


def _results(client: httpx.Client, job_id: str) -> dict[str, Any]:
    lines = client.get(f"/v1/jobs/{job_id}/results").raise_for_status().text.splitlines()
    found = {line["custom_id"]: line for line in map(json.loads, lines)}
    assert len(found) == len(lines)
    return found


def _wait_for_end(stack: RunningStack, client: httpx.Client, job_id: str) -> None:
    stack.wait_until(lambda: _job(client, job_id)["state"] in ENDED, timeout_s=90, what=f"the end of {job_id}")


def _restored(home: Path, settings: dict[str, str], folder: Path) -> Stack:
    """Another stack of the same secret, filled from the backup."""
    stack = Stack(Home(home.resolve()), lambda line: print(line, flush=True))
    (home / "data").mkdir(mode=0o700)
    pepper = {"key_pepper": settings["NIGHTSHIFT_KEY_PEPPER"]}
    (home / "data" / "credentials.json").write_text(json.dumps(pepper), encoding="utf-8")
    stack.up(servers_only=True)
    _do("Restore", folder=folder, settings=RunningStack(stack).settings)
    stack.up()
    return stack


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_fresh_stack_goes_on_from_a_backup(
    stack: RunningStack, folder: Path, fresh_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = stack.new_key(TENANT)
    with stack.client(key) as client:
        finished = _submit(client, 30)
        _wait_for_end(stack, client, finished)
        before = _results(client, finished)
        unfinished = _submit(client, N_UNFINISHED, delay_s=0.5)
        stack.wait_until(lambda: _job(client, unfinished)["state"] == "running", timeout_s=30, what="running")
        _do("Back up", folder=folder, settings=stack.settings)
        assert _job(client, unfinished)["state"] == "running"
        client.post(f"/v1/jobs/{unfinished}/cancel").raise_for_status()
    monkeypatch.setenv("NIGHTSHIFT_QUEUES", "cpu.0")
    other = RunningStack(_restored(fresh_home, stack.settings, folder))
    try:
        with other.client(key) as client:
            assert _job(client, finished)["state"] == "succeeded"
            assert _results(client, finished) == before
            _wait_for_end(other, client, unfinished)
            assert _job(client, unfinished)["state"] == "succeeded"
            assert set(_results(client, unfinished)) == {f"i{n}" for n in range(N_UNFINISHED)}
    finally:
        other.stack.down()
