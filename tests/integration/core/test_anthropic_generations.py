"""An ``anthropic`` SDK of the generation before, which sends the version ``2023-06-01``, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from chat_core import chatting, served
from core_machine import CoreMachine
from scripted_upstream import scripted_upstream

OLD_VERSION = "0.49.0"
# Without what it depends on: that is installed, but for one that the present SDK does without.
OLD = (f"anthropic=={OLD_VERSION}", "distro==1.9.0")
CLIENT = Path(__file__).parents[2] / "old_anthropic_client.py"
PATIENCE_S = 60


@pytest.fixture(scope="session")
def old_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the old SDK; installing it takes two seconds."""
    folder = tmp_path_factory.mktemp("old-sdk")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), *OLD], check=True, timeout=PATIENCE_S)
    return folder


@pytest.fixture
def chatty(core: CoreMachine) -> Iterator[CoreMachine]:
    """A core with a chat model."""
    with scripted_upstream() as upstream, chatting(core, upstream) as made:
        yield made


def test_an_old_sdk_does_all_of_it(chatty: CoreMachine, old_sdk: Path, free_tcp_port: int) -> None:
    with served(chatty, free_tcp_port) as api:
        argv = [sys.executable, str(CLIENT), api.url, api.key, OLD_VERSION]
        environment = {**os.environ, "PYTHONPATH": str(old_sdk)}
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            batch_id = process.stdout.readline().strip()
            api.core.drive(batch_id.replace("msgbatch_", "job_"))
            found = json.loads(process.communicate(timeout=PATIENCE_S)[0])
    assert process.returncode == 0
    assert found == {
        "counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0},
        "kinds": {"warm": "succeeded", "bad": "errored"},
        "text": "I am warm",
        "listed": [batch_id],
        "refusals": ["ConflictError", "NotFoundError"],
        "deleted": "message_batch_deleted",
    }
