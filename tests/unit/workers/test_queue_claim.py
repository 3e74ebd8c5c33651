"""One live worker for each queue of a host."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import QueueTaken
from config.settings import Settings
from workers import queue_claim

NOWHERE = Settings(
    database_url="postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none",
    broker_url="amqp://nobody:nothing@127.0.0.1:1/none",
    redis_url="redis://127.0.0.1:1/0",
    s3_endpoint="http://127.0.0.1:1",
    s3_access_key="nobody",
    s3_secret_key="nothing",
    key_pepper="pepper",
)
HOLD = """
import sys, tempfile
from pathlib import Path
tempfile.tempdir = sys.argv[1]
from workers.queue_claim import _lock_on_host
held = _lock_on_host("cpu.0", sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(queue_claim, "LOCK_WAIT_S", 0.5)


def test_a_queue_is_held_until_its_process_is_gone_however_it_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), NOWHERE.database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(QueueTaken, match=f"cpu.0 is served by process {other.pid} on this host"):
            queue_claim.claim_queue("cpu.0", NOWHERE)
        other.kill()
    queue_claim.claim_queue("cpu.0", NOWHERE).close()


def test_other_queues_and_other_installations_are_in_nobodys_way() -> None:
    elsewhere = replace(NOWHERE, database_url=f"{NOWHERE.database_url}2")
    claims = [("cpu.0", NOWHERE), ("cpu.1", NOWHERE), ("cpu.0", elsewhere)]
    for held in [queue_claim.claim_queue(queue, settings) for queue, settings in claims]:
        held.close()


def test_a_database_that_is_away_does_not_keep_a_worker_from_starting() -> None:
    queue_claim.claim_queue("cpu.0", NOWHERE).close()
