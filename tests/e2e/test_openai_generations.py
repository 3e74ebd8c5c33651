"""The unmodified ``openai`` SDK, this generation and the one before, each in a process of its own: ``openai_calls``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from running_stack import RunningStack
from sqlalchemy import create_engine, text

CALLS = Path(__file__).parents[1] / "openai_calls.py"
PRESENT = version("openai")
BEFORE = "1.109.1"
# Without what it depends on: that is installed, but for one that the present SDK does without.
INSTALLED = (f"openai=={BEFORE}", "distro==1.9.0")
LINE = {"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}
PATIENCE_S = 110


@pytest.fixture(scope="module")
def sdk_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the SDK of the generation before."""
    folder = tmp_path_factory.mktemp("sdk-before")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps"]
    subprocess.run([*pip, "--target", str(folder), *INSTALLED], check=True, timeout=PATIENCE_S)
    return folder


@pytest.fixture
def given(stack: RunningStack) -> dict[str, str]:
    """What ``openai_calls.Given`` says."""
    api_key, narrow = stack.new_key(f"sdk-{uuid4().hex}"), f"sdk-narrow-{uuid4().hex}"
    narrow_key = stack.new_key(narrow)
    with stack.client(stack.admin_key) as admin:
        limits = {"requests_per_minute": 1, "max_storage_bytes": 1}
        admin.patch(f"/v1/admin/tenants/{narrow}", json=limits).raise_for_status()
    with stack.client() as somebody, stack.client(api_key) as own:
        return {
            "url": f"{stack.url}/v1",
            "api_key": api_key,
            "narrow_key": narrow_key,
            "foreign_file": _upload(somebody),
            "expiring_batch": _expiring_batch(stack, own),
        }


def _upload(client: httpx.Client) -> str:
    files = {"file": ("in.jsonl", json.dumps(LINE).encode())}
    return str(client.post("/v1/files", data={"purpose": "batch"}, files=files).raise_for_status().json()["id"])


def _expiring_batch(stack: RunningStack, client: httpx.Client) -> str:
    """A paused batch whose window closes now; the shortest that may be asked for is a minute."""
    body = {"input_file_id": _upload(client), "endpoint": "/v1/echo", "completion_window": "24h"}
    with stack.client() as other:  # the workers are busy for a moment, so that the batch is paused before it runs
        slow = {
            "endpoint": "/v1/echo",
            "model": "echo",
            "inputs": [{"body": {"input": "x", "echo": {"delay_s": 1}}}] * 4,
        }
        other.post("/v1/jobs", json={**slow, "priority": "urgent"}).raise_for_status()
        batch_id = str(client.post("/v1/batches", json=body).raise_for_status().json()["id"])
        client.post(f"/v1/jobs/{batch_id}/pause").raise_for_status()
    engine = create_engine(stack.settings["NIGHTSHIFT_DATABASE_URL"])
    with engine.begin() as connection:
        values = {"id": batch_id.replace("batch_", "job_")}
        connection.execute(text("UPDATE jobs SET deadline_at = now() WHERE id = :id"), values)
    engine.dispose()
    return batch_id


@pytest.mark.parametrize("release", [PRESENT, BEFORE])
def test_clients_of_either_generation_get_what_they_expect(
    release: str, given: dict[str, str], request: pytest.FixtureRequest, subtests: pytest.Subtests
) -> None:
    folder = str(request.getfixturevalue("sdk_before")) if release == BEFORE else ""
    done = subprocess.run(
        [sys.executable, str(CALLS), release],
        env={**os.environ, "PYTHONPATH": folder},
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told, done.stderr
    for each in told:
        with subtests.test(check=each["check"], client=each["client"]):
            assert each["problem"] is None, each["problem"]
    assert done.returncode == 0, done.stderr
