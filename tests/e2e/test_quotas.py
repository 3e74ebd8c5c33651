"""What a tenant may do, on the whole stack, with OpenAI's own SDK and the command line."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest
from running_stack import RunningStack

from app.services.request_rate import REMEMBERED_S

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'
JOB = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a"]}

SetQuota = Callable[..., dict[str, Any]]


@pytest.fixture
def tenant() -> str:
    """A name that nobody else has."""
    return f"quota-{uuid4().hex}"


@pytest.fixture
def client(stack: RunningStack, tenant: str) -> Iterator[httpx.Client]:
    with stack.client(stack.new_key(tenant)) as made:
        yield made


@pytest.fixture
def sdk(stack: RunningStack, client: httpx.Client) -> Iterator[openai.OpenAI]:
    """The SDK with the tenant's key."""
    key = client.headers["Authorization"].removeprefix("Bearer ")
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as made:
        yield made


@pytest.fixture
def set_quota(stack: RunningStack, tenant: str, client: httpx.Client) -> SetQuota:
    """Run ``nightshift tenants set`` for the tenant, as an operator would."""
    assert client.get("/v1/models").is_success

    def set_(*options: str) -> dict[str, Any]:
        command = [str(Path(sys.executable).with_name("nightshift")), "tenants", "set", tenant, *options, "--json"]
        env = {"NIGHTSHIFT_URL": stack.url, "NIGHTSHIFT_ADMIN_KEY": stack.admin_key}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return dict(json.loads(done.stdout))

    return set_


def _stored(stack: RunningStack, tenant: str) -> int:
    with stack.client(stack.admin_key) as admin:
        return int(admin.get(f"/v1/admin/tenants/{tenant}").raise_for_status().json()["use"]["stored_bytes"])


def _upload(sdk: openai.OpenAI, **options: Any) -> Any:
    return sdk.files.create(file=("in.jsonl", io.BytesIO(LINE)), purpose="batch", **options)


def test_the_demo_tenant_may_send_six_thousand_requests_a_minute(stack: RunningStack) -> None:
    with stack.client() as demo:
        assert demo.get("/v1/models").headers["x-ratelimit-limit-requests"] == "6000"


def test_past_its_requests_per_minute_the_sdk_is_told_when_to_come_back(
    sdk: openai.OpenAI, set_quota: SetQuota
) -> None:
    assert set_quota("--rpm", "4")["limits"]["requests_per_minute"] == 4
    time.sleep(REMEMBERED_S)
    for _ in range(4):
        sdk.embeddings.create(model="all-MiniLM-L6-v2", input="a text")
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.embeddings.create(model="all-MiniLM-L6-v2", input="a text")
    assert (refused.value.code, refused.value.type) == ("rate_limit_exceeded", "rate_limit_error")
    headers = refused.value.response.headers
    assert 1 <= int(headers["retry-after"]) <= 120
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("4", "0")


def test_all_processes_of_the_api_count_together(client: httpx.Client, set_quota: SetQuota) -> None:
    set_quota("--rpm", "20")
    time.sleep(REMEMBERED_S)
    headers = {**client.headers, "Connection": "close"}  # each request may meet another process

    def send(_: int) -> int:
        return httpx.post(f"{client.base_url}/v1/jobs", json=JOB, headers=headers, timeout=30).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(send, range(40)))
    assert (statuses.count(202), statuses.count(429)) == (20, 20)


def test_a_raised_limit_lets_requests_through_and_reset_takes_it_back(
    client: httpx.Client, set_quota: SetQuota
) -> None:
    default = client.get("/v1/models").headers["x-ratelimit-limit-requests"]
    set_quota("--rpm", "1")
    time.sleep(REMEMBERED_S)
    assert [client.post("/v1/jobs", json=JOB).status_code for _ in range(2)] == [202, 429]
    assert set_quota("--rpm", "50")["quota"]["requests_per_minute"] == 50
    time.sleep(REMEMBERED_S)
    assert client.post("/v1/jobs", json=JOB).status_code == 202
    assert set_quota("--reset", "rpm")["limits"]["requests_per_minute"] is None
    time.sleep(REMEMBERED_S)
    assert client.get("/v1/models").headers["x-ratelimit-limit-requests"] == default


def _in_memory(stack: RunningStack) -> float:
    """How many requests the API's processes have counted without Redis."""
    name = "nightshift_rates_in_memory_requests_total "
    lines = httpx.get(stack.env["NIGHTSHIFT_METRICS_URL"], timeout=30).text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def test_while_redis_hangs_jobs_are_taken_and_counted_in_memory(
    stack: RunningStack, client: httpx.Client, set_quota: SetQuota
) -> None:
    set_quota("--rpm", "500")
    before = _in_memory(stack)
    stack.kill("redis", signal.SIGSTOP)
    try:
        started = time.monotonic()
        answers = [client.post("/v1/jobs", json=JOB) for _ in range(10)]
        took_s = time.monotonic() - started
    finally:
        stack.kill("redis", signal.SIGCONT)
    assert [answer.status_code for answer in answers] == [202] * 10
    assert all("x-ratelimit-limit-requests" in answer.headers for answer in answers)
    assert took_s < 10  # one that waited for Redis in each would take longer than this
    assert _in_memory(stack) >= before + 10
    stack.wait_until_ready()


@pytest.fixture
def small_queue(stack: RunningStack) -> Iterator[int]:
    """The API started again with a hard cap of three unfinished jobs a tenant."""
    file = stack.stack.home.settings_file
    settings = file.read_text(encoding="utf-8")
    stack.stack.home.write_private(file, settings + "\nexport NIGHTSHIFT_MAX_QUEUED_JOBS=3\n")
    try:
        stack.restart("api")
        stack.wait_until_ready()
        yield 3
    finally:
        stack.stack.home.write_private(file, settings)
        stack.restart("api")
        stack.wait_until_ready()


def test_past_the_hard_cap_the_sdk_is_told_when_to_come_back(
    client: httpx.Client, sdk: openai.OpenAI, small_queue: int
) -> None:
    job_ids = []
    for _ in range(small_queue):
        slow = [{"custom_id": "a", "body": {"input": "x", "echo": {"delay_s": 0.1}}}]
        job_ids.append(client.post("/v1/jobs", json={**JOB, "inputs": slow}).raise_for_status().json()["id"])
        client.post(f"/v1/jobs/{job_ids[-1]}/pause").raise_for_status()
    file = _upload(sdk)
    with pytest.raises(openai.RateLimitError) as refused:
        sdk.batches.create(input_file_id=file.id, endpoint="/v1/echo", completion_window="24h")  # type: ignore[arg-type]
    assert refused.value.code == "queue_full"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 120
    for job_id in job_ids:
        client.post(f"/v1/jobs/{job_id}/cancel").raise_for_status()
    RunningStack.wait_until(
        lambda: all(client.get(f"/v1/jobs/{job_id}").json()["finished_at"] for job_id in job_ids),
        timeout_s=60,
        what="the end of the cancelled jobs",
    )
    assert sdk.batches.create(input_file_id=file.id, endpoint="/v1/echo", completion_window="24h").id  # type: ignore[arg-type]


def test_past_its_storage_the_sdk_is_told_what_to_delete_and_deleting_helps(
    stack: RunningStack, sdk: openai.OpenAI, tenant: str, set_quota: SetQuota
) -> None:
    file = _upload(sdk)
    set_quota("--max-storage", str(len(LINE)))
    for refused_call in (
        lambda: _upload(sdk),
        lambda: sdk.batches.create(input_file_id=file.id, endpoint="/v1/echo", completion_window="24h"),  # type: ignore[arg-type]
    ):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            refused_call()
        assert refused.value.code == "storage_quota_exceeded"
        assert f"{len(LINE)} of {len(LINE)} bytes" in refused.value.message
    sdk.files.delete(file.id)
    assert _stored(stack, tenant) == 0
    assert _upload(sdk).status == "processed"


def test_what_a_job_wrote_counts_and_its_life_is_capped(
    stack: RunningStack, client: httpx.Client, tenant: str, set_quota: SetQuota
) -> None:
    set_quota("--retention", "2h")
    job = client.post("/v1/jobs", json={**JOB, "output_expires_after": 86_400}).json()
    path = f"/v1/jobs/{job['id']}"
    stack.wait_until(lambda: client.get(path).json()["finished_at"] is not None, timeout_s=60, what="the job's end")
    done, manifest = client.get(path).json(), client.get(f"{path}/manifest").json()
    n_bytes = sum(part["bytes"] for part in manifest["parts"])
    assert _stored(stack, tenant) > n_bytes > 0
    lives = [_moment(done["results_expire_at"]) - _moment(done["finished_at"])]
    upload = client.post("/v1/files", files={"file": ("in.jsonl", LINE)}, data={"purpose": "batch"}).json()
    assert lives == [7200]
    assert upload["expires_at"] - upload["created_at"] in {7200, 7201}


def _moment(text: str) -> float:
    return round(datetime.fromisoformat(text).timestamp(), 3)


def test_a_tenants_key_opens_no_door_to_quotas(client: httpx.Client, tenant: str) -> None:
    for method, path in (
        ("GET", "/v1/admin/tenants"),
        ("GET", f"/v1/admin/tenants/{tenant}"),
        ("PATCH", f"/v1/admin/tenants/{tenant}"),
    ):
        answer = client.request(method, path, json={"weight": 100})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
