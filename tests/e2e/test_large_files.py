"""Files above one job's limits, from their upload in parts to the merged results, on the whole stack."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from checker import Checker
from openai import APIStatusError, BadRequestError, OpenAI
from running_stack import RunningStack
from sqlalchemy import text

from app.db.session import Database
from app.wiring import Wiring, build_wiring
from config.settings import Settings

N_LINES = 52_000
MEMBERS = 6
REST_S = 8
JOB = {"endpoint": "/v1/echo", "model": "echo"}
TERMINAL = {"succeeded", "partially_succeeded", "failed", "expired", "cancelled"}


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """The tenant demo over HTTP."""
    with stack.client(timeout=120) as opened:
        yield opened


@pytest.fixture
def wiring(stack: RunningStack) -> Iterator[Wiring]:
    """The stack's own servers."""
    made = build_wiring(Settings.from_environ(stack.settings))
    yield made
    made.database.close()


@pytest.fixture
def database(wiring: Wiring) -> Database:
    """The stack's rows."""
    return wiring.database


@pytest.fixture
def checker(wiring: Wiring) -> Checker:
    """Looks into the stack's rows and blobs."""
    return Checker(wiring.database, wiring.storage)


def write(
    path: Path, n_lines: int = N_LINES, *, body: Callable[[int], dict[str, Any]] = lambda n: {"input": n}
) -> Path:
    with path.open("w", encoding="utf-8") as sink:
        for number in range(n_lines):
            sink.write(json.dumps({"custom_id": f"item-{number}", "body": body(number)}) + "\n")
    return path


def upload(client: httpx.Client, path: Path) -> str:
    answer = client.post("/v1/files", data={"purpose": "batch"}, files={"file": (path.name, path.read_bytes())})
    return str(answer.raise_for_status().json()["id"])


def submit(client: httpx.Client, file_id: str) -> str:
    group = client.post("/v1/jobs", json={**JOB, "input_file_id": file_id}).raise_for_status().json()
    assert group["object"] == "group"
    return str(group["id"])


def show(client: httpx.Client, group_id: str) -> dict[str, Any]:
    group: dict[str, Any] = client.get(f"/v1/groups/{group_id}").raise_for_status().json()
    counts = group["counts"]
    assert counts["total"] == sum(counts[name] for name in counts if name != "total")
    return group


def ended(stack: RunningStack, client: httpx.Client, group_id: str) -> dict[str, Any]:
    stack.wait_until(
        lambda: show(client, group_id)["results_expire_at"] is not None, timeout_s=90, what=f"the end of {group_id}"
    )
    return show(client, group_id)


def nightshift(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("nightshift")), *arguments]
    return subprocess.run(command, env=stack.env, capture_output=True, text=True, timeout=110, check=False)


def test_a_file_sent_in_parts_by_the_sdk_runs_as_one_group(
    stack: RunningStack, client: httpx.Client, checker: Checker, tmp_path: Path
) -> None:
    sdk = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key)
    path = write(tmp_path / "large.jsonl")
    sent = sdk.uploads.upload_file_chunked(file=path, mime_type="application/jsonl", purpose="batch", part_size=700_000)
    assert sent.file is not None
    assert (sent.status, sent.file.bytes) == ("completed", path.stat().st_size)
    group = ended(stack, client, submit(client, sent.file.id))
    assert (group["state"], len(group["jobs"]), group["counts"]["succeeded"]) == ("succeeded", MEMBERS, N_LINES)
    answer = client.get(f"/v1/groups/{group['id']}/results").raise_for_status()
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert answer.headers["x-nightshift-complete"] == "true"
    assert sorted(line["index"] for line in lines) == list(range(N_LINES))
    assert all(line["response"]["body"]["echo"] == line["index"] for line in lines)
    checker.check_group(group["id"])


def test_the_command_line_submits_watches_and_reads_a_group(stack: RunningStack, tmp_path: Path) -> None:
    path = write(tmp_path / "large.jsonl")
    done = nightshift(stack, "submit", str(path), "--endpoint", "/v1/echo", "--model", "echo", "--watch", "--json")
    assert done.returncode == 0, done.stderr
    group = json.loads(done.stdout)["id"]
    assert f"{N_LINES:,} succeeded" in nightshift(stack, "show", group).stdout
    target = tmp_path / "out.jsonl"
    assert nightshift(stack, "results", group, "-o", str(target)).returncode == 0
    assert target.read_bytes().count(b"\n") == N_LINES
    assert group in nightshift(stack, "groups").stdout


def test_a_cancelled_group_keeps_what_it_has_and_runs_the_rest_when_it_is_retried(
    stack: RunningStack, client: httpx.Client, checker: Checker, tmp_path: Path
) -> None:
    path = write(tmp_path / "slow.jsonl", body=lambda n: {"input": n, "echo": {"delay_s": 0.001}})
    group_id = submit(client, upload(client, path))
    stack.wait_until(lambda: show(client, group_id)["state"] == "running", timeout_s=60, what="a running group")
    assert nightshift(stack, "cancel", group_id).returncode == 0
    assert client.post(f"/v1/groups/{group_id}/cancel").status_code == 200
    counts = ended(stack, client, group_id)["counts"]
    assert show(client, group_id)["state"] == "cancelled"
    assert counts["cancelled"] > 0
    assert counts["succeeded"] + counts["cancelled"] == N_LINES
    checker.check_group(group_id)
    assert nightshift(stack, "retry", group_id).returncode == 0
    stack.wait_until(lambda: show(client, group_id)["state"] == "succeeded", timeout_s=90, what="the retry")
    ended(stack, client, group_id)
    checker.check_group(group_id)


def test_a_planner_killed_midway_is_followed_by_another(
    stack: RunningStack, client: httpx.Client, checker: Checker, database: Database, tmp_path: Path
) -> None:
    path = write(tmp_path / "many.jsonl")
    with planning_rests_at(database, ordinal=3):
        group_id = submit(client, upload(client, path))
        stack.wait_until(lambda: len(show(client, group_id)["jobs"]) == 3, timeout_s=60, what="the third member")
        kill_control_worker(stack)
        assert len(show(client, group_id)["jobs"]) == 3
        group = ended(stack, client, group_id)
    assert (group["state"], len(group["jobs"]), group["counts"]["succeeded"]) == ("succeeded", MEMBERS, N_LINES)
    checker.check_group(group_id)


@contextmanager
def planning_rests_at(database: Database, *, ordinal: int) -> Iterator[None]:
    """Let Postgres take some seconds over the member of that ordinal, of any group, so that its planner can be met."""
    begin = f"""
        CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_sleep({REST_S}); RETURN NEW; END $$;
        CREATE TRIGGER rest BEFORE INSERT ON jobs FOR EACH ROW WHEN (NEW.group_ordinal = {ordinal})
            EXECUTE FUNCTION rest()"""
    with database.begin() as connection:
        connection.execute(text(begin))
    try:
        yield
    finally:
        with database.begin() as connection:
            connection.execute(text("DROP FUNCTION rest CASCADE"))


def kill_control_worker(stack: RunningStack) -> None:
    """Kill it with SIGKILL, the children that do its work first."""
    parent = psutil.Process(stack.pid("control"))
    for process in (*parent.children(recursive=True), parent):
        process.kill()
    stack.wait_for_new_pid("control", parent.pid)


def test_a_batch_does_not_take_what_only_a_group_can(stack: RunningStack, client: httpx.Client, tmp_path: Path) -> None:
    sdk = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key)
    path = tmp_path / "long.jsonl"
    with path.open("wb") as sink:
        sink.truncate(200 * 1024 * 1024 + 1)
    sent = sdk.uploads.upload_file_chunked(file=path, mime_type="application/jsonl", purpose="batch")
    assert sent.file is not None
    with pytest.raises(APIStatusError) as refused:
        sdk.batches.create(input_file_id=sent.file.id, endpoint="/v1/embeddings", completion_window="24h")
    assert (refused.value.status_code, refused.value.param) == (413, "input_file_id")
    group = client.post("/v1/jobs", json={**JOB, "input_file_id": sent.file.id}).raise_for_status().json()
    assert group["object"] == "group"
    refusal = ended_refused(stack, client, group["id"])
    assert refusal["errors"]["validation"][0]["code"] in {"line_too_long", "invalid_json_line"}
    client.delete(f"/v1/files/{sent.file.id}").raise_for_status()


def ended_refused(stack: RunningStack, client: httpx.Client, group_id: str) -> dict[str, Any]:
    stack.wait_until(lambda: show(client, group_id)["state"] == "failed", timeout_s=90, what="the refusal")
    return show(client, group_id)


def test_an_upload_with_the_wrong_md5_is_a_bad_request_of_the_sdk(stack: RunningStack) -> None:
    sdk = OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key)
    content = b'{"custom_id": "a", "body": {}}\n'
    with pytest.raises(BadRequestError) as refused:
        sdk.uploads.upload_file_chunked(
            file=content,
            filename="a.jsonl",
            bytes=len(content),
            mime_type="application/jsonl",
            purpose="batch",
            md5="0" * 32,
        )
    assert refused.value.param == "md5"
