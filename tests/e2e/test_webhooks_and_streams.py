"""On the whole stack: receivers are told what the openai SDK believes, also after an outage, and streams resume."""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from openai.types.webhooks import BatchCompletedWebhookEvent
from running_stack import RunningStack
from standardwebhooks import Webhook
from webhook_receiver import webhook_receiver

ENDED = {"succeeded", "partially_succeeded", "failed", "expired", "cancelled"}


@pytest.fixture
def key(stack: RunningStack) -> str:
    """Of a tenant that nobody else uses."""
    return stack.new_key(f"hooks-{uuid4().hex[:12]}")


@pytest.fixture
def client(stack: RunningStack, key: str) -> Iterator[httpx.Client]:
    with stack.client(key) as made:
        yield made


@pytest.fixture
def sdk(stack: RunningStack, key: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{stack.url}/v1", api_key=key) as made:
        yield made


def _submit(client: httpx.Client, n_items: int = 1, *, delay_s: float = 0.0, **fields: Any) -> dict[str, Any]:
    inputs = [{"body": {"input": str(number), "echo": {"delay_s": delay_s}}} for number in range(n_items)]
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": inputs, **fields}
    answer: dict[str, Any] = client.post("/v1/jobs", json=body).raise_for_status().json()
    return answer


def test_the_openai_sdk_registers_a_receiver_and_unwraps_what_it_gets(sdk: OpenAI) -> None:
    with webhook_receiver() as receiver:
        endpoint = sdk.webhooks.create(name="nightly", url=receiver.url, event_types=["batch.completed"])
        assert sdk.webhooks.test(endpoint.id, event_type="batch.completed").status_code == 200
        assert "batch.completed" in sdk.webhooks.event_types.list().data
        assert [one.id for one in sdk.webhooks.list()] == [endpoint.id]
        rotated = sdk.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
        line = {"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "a"}}
        file = sdk.files.create(file=("in.jsonl", io.BytesIO(json.dumps(line).encode())), purpose="batch")
        batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/echo", completion_window="24h")  # type: ignore[arg-type]  # ours
        got = receiver.wait_for(2)[1]
        for secret in (endpoint.signing_secret, rotated.signing_secret):
            event = sdk.webhooks.unwrap(got.body, got.headers, secret=secret)
            assert isinstance(event, BatchCompletedWebhookEvent)
            assert event.data.id == batch.id
        assert sdk.batches.retrieve(batch.id).status == "completed"
        with pytest.raises(BadRequestError) as refused:
            sdk.webhooks.update(endpoint.id, url="https://10.0.0.1/")
        assert refused.value.code == "webhook_receiver_refused"
        assert sdk.webhooks.delete(endpoint.id).deleted
        with pytest.raises(NotFoundError):
            sdk.webhooks.retrieve(endpoint.id)


def test_a_receiver_that_was_down_is_told_once_when_it_is_back(client: httpx.Client) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    job = _submit(client, webhook={"url": f"http://127.0.0.1:{port}/hook"})
    log = f"/v1/webhook_deliveries?job_id={job['id']}"

    def delivery() -> dict[str, Any]:
        found = client.get(log).raise_for_status().json()["data"]
        return dict(found[0]) if found else {"attempts": []}

    RunningStack.wait_until(lambda: len(delivery()["attempts"]) > 0, timeout_s=20, what="a first attempt")
    assert delivery()["attempts"][0]["error"] == "connection_failed"
    assert client.get(f"/v1/jobs/{job['id']}").json()["state"] == "succeeded"
    with webhook_receiver(port=port) as receiver:
        (got,) = receiver.wait_for(1, timeout_s=40)
        RunningStack.wait_until(lambda: delivery()["state"] == "delivered", timeout_s=10, what="delivered")
        time.sleep(1)
        assert receiver.ids == [delivery()["event_id"]]
    Webhook(job["webhook"]["signing_secret"]).verify(got.body, got.headers)
    assert got.event["data"]["id"] == job["id"]


def _listen(client: httpx.Client, job_id: str, last: str | None) -> Iterator[dict[str, Any]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=30) as response:
        event: dict[str, Any] = {}
        for line in response.raise_for_status().iter_lines():
            name, _, value = line.partition(": ")
            if name == "data":
                yield {**event, "data": json.loads(value)}
                event = {}
            elif name in {"event", "id"}:
                event[name] = value


def test_a_stream_that_is_cut_off_after_each_event_tells_all_the_same(client: httpx.Client) -> None:
    job_id = _submit(client, 40, delay_s=0.05)["id"]
    heard, last = [], "0"
    while not heard or heard[-1]["event"] != "done":
        for event in _listen(client, job_id, last):
            if event["event"] == "progress":  # it has no place in the row of events
                continue
            heard.append(event)
            last = event["id"]
            break
    whole = [event for event in _listen(client, job_id, "0") if event["event"] != "progress"]
    assert heard == whole
    assert [event["data"]["state"] for event in whole if event["event"] == "state"][-1] == "succeeded"


def test_results_only_grow_at_their_end_while_a_job_runs(client: httpx.Client) -> None:
    job_id = _submit(client, 60, delay_s=0.05)["id"]
    seen: list[bytes] = [b""]
    while True:
        is_over = client.get(f"/v1/jobs/{job_id}").json()["state"] in ENDED
        content = client.get(f"/v1/jobs/{job_id}/results").raise_for_status().content
        assert content.startswith(seen[-1])
        seen.append(content)
        if is_over:
            break
        time.sleep(0.05)
    assert content.count(b"\n") == 60
    assert client.get(f"/v1/jobs/{job_id}/results").content == content
