"""``Idempotency-Key`` against the running API: several processes, broken connections, killed servers."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import openai
import pytest
from running_stack import RunningStack

JOB = {"endpoint": "/v1/echo", "model": "echo", "input": "hello"}
PATIENCE_S = 60


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    """A tenant of its own, so that its jobs can be counted."""
    with stack.client(stack.new_key(f"once-{uuid4().hex}")) as made:
        yield made


@pytest.fixture
def key() -> str:
    """A key that nobody has used."""
    return uuid4().hex


def _post(client: httpx.Client, key: str) -> httpx.Response:
    return client.post("/v1/jobs", json=JOB, headers={"Idempotency-Key": key})


def _job_ids(client: httpx.Client) -> list[str]:
    return [job["id"] for job in client.get("/v1/jobs", params={"limit": 100}).raise_for_status().json()["data"]]


def test_twenty_posts_to_all_processes_make_one_job(client: httpx.Client, key: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _post(client, key), range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["id"] for answer in answers} == set(_job_ids(client))
    assert len(_job_ids(client)) == 1


def test_a_retry_after_a_connection_that_broke_finds_the_job(client: httpx.Client, key: str) -> None:
    body = json.dumps(JOB).encode()
    address = urlsplit(str(client.base_url))
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: {client.headers['Authorization']}\r\n"
        f"Idempotency-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head.encode() + body)  # and gone, before any answer
    retried = client.post(
        "/v1/jobs", content=body, headers={"Idempotency-Key": key, "Content-Type": "application/json"}
    )
    assert retried.status_code == 202
    assert _job_ids(client) == [retried.json()["id"]]


def test_a_restarted_server_answers_as_before(stack: RunningStack, client: httpx.Client, key: str) -> None:
    first = _post(client, key)
    stack.restart("api")
    stack.wait_until_ready()
    second = _post(client, key)
    assert (second.content, second.headers["idempotent-replayed"]) == (first.content, "true")


def _post_until_accepted(client: httpx.Client, key: str) -> str:
    """What a careful client does."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            answer = _post(client, key)
        except httpx.TransportError:
            time.sleep(0.1)
            continue
        if answer.status_code == httpx.codes.ACCEPTED:
            return str(answer.json()["id"])
        assert answer.status_code >= 500, answer.text
        time.sleep(0.1)
    raise AssertionError(f"not accepted within {PATIENCE_S} s")


def test_killing_the_api_again_and_again_doubles_nothing(stack: RunningStack, client: httpx.Client) -> None:
    keys = [uuid4().hex for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        answered = [pool.submit(_post_until_accepted, client, key) for key in keys]
        for _ in range(2):
            time.sleep(0.3)
            old = stack.kill("api")
            stack.wait_for_new_pid("api", old)
        ids = [job.result() for job in answered]
    assert len(set(ids)) == len(keys)
    assert sorted(_job_ids(client)) == sorted(ids)
    assert [_post_until_accepted(client, key) for key in keys] == ids


def test_the_sdk_sends_a_key_where_it_is_told_to(stack: RunningStack, key: str) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}
    content = json.dumps(line).encode()
    headers = {"Idempotency-Key": key}
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key, max_retries=0) as sdk:
        files = [sdk.files.create(file=("a.jsonl", content), purpose="batch", extra_headers=headers) for _ in range(2)]
        assert files[0] == files[1]

        def create(**metadata: str) -> openai.types.Batch:
            return sdk.batches.create(
                input_file_id=files[0].id,
                endpoint="/v1/echo",  # type: ignore[arg-type]
                completion_window="24h",
                metadata=metadata,
                extra_headers=headers,
            )

        assert create(run="1").id == create(run="1").id
        with pytest.raises(openai.UnprocessableEntityError) as refused:
            create(run="2")
        assert refused.value.code == "idempotency_key_reused"
        with pytest.raises(openai.BadRequestError, match="Idempotency-Key"):
            sdk.files.create(file=("a.jsonl", content), purpose="batch", extra_headers={"Idempotency-Key": "two words"})
