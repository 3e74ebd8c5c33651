"""One of everything that a tenant can own, made through the API of a running stack."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from running_stack import RunningStack

MARK = "for-its-owner-only"
"""Stands in everything that the objects hold: their names, metadata, contents."""
ITEM = "item-1"
"""The item of each job."""
_LINE = (
    f'{{"custom_id": "{ITEM}", "method": "POST", "url": "/v1/echo", "body": {{"model": "echo", "input": "{MARK}"}}}}\n'
)
_MORE_THAN_A_JOB_TAKES = 50_001
_ANNOUNCED = {"bytes": 10, "filename": f"{MARK}.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
_ENDPOINT = {"name": MARK, "url": f"http://127.0.0.1:9/{MARK}", "event_types": ["job.held"]}
_NEVER = "0 0 29 2 *"
_JOB: dict[str, Any] = {"endpoint": "/v1/echo", "model": "echo", "metadata": {"mark": MARK}}
_MESSAGE = {"model": "echo", "max_tokens": 64, "messages": [{"role": "user", "content": MARK}]}
_MESSAGES = {"requests": [{"custom_id": ITEM, "params": _MESSAGE}]}
VERSIONED = {"anthropic-version": "2023-06-01"}
"""What a request of the Anthropic dialect cannot do without."""
_LIVE = ("validating", "queued", "running", "held", "paused")


@dataclass(frozen=True, slots=True)
class OwnedObjects:
    """Ids, all of one tenant."""

    job: str
    batch: str
    file: str
    schedule: str
    batch_input: str
    group: str
    upload: str
    webhook_endpoint: str
    message_batch: str

    @property
    def by_parameter(self) -> dict[str, tuple[str, ...]]:
        """Name of a path parameter -> every id that it takes."""
        jobs = [self.job, self.batch]
        jobs += [self.job.replace("job_", "batch_"), self.batch.replace("batch_", "job_")]
        messages = [self.message_batch.replace("msgbatch_", prefix) for prefix in ("msgbatch_", "job_", "batch_")]
        return {
            "job_id": (*jobs, self.message_batch),
            "batch_id": (*jobs, self.message_batch),
            "message_batch_id": tuple(messages),
            "file_id": (self.file, self.batch_input),
            "schedule_id": (self.schedule,),
            "group_id": (self.group,),
            "upload_id": (self.upload,),
            "endpoint_id": (self.webhook_endpoint,),
        }


def make_objects(stack: RunningStack, client: httpx.Client) -> OwnedObjects:
    """A job and batches that have succeeded, a file and a schedule that never runs by itself."""
    job = _created(client, "/v1/jobs", {**_JOB, "inputs": [{"custom_id": ITEM, "body": {"input": MARK}}]})
    file = _upload(client)
    batch_input = _upload(client)
    batch = {"input_file_id": batch_input, "endpoint": "/v1/echo", "completion_window": "24h"}
    made = OwnedObjects(
        job=job,
        batch=_created(client, "/v1/batches", {**batch, "metadata": {"mark": MARK}}),
        file=file,
        schedule=_created(
            client, "/v1/schedules", {"name": MARK, "cron": _NEVER, "job": _JOB, "source": {"file_id": file}}
        ),
        batch_input=batch_input,
        group=_created(client, "/v1/jobs", {**_JOB, "input_file_id": _upload(client, _group_lines())}),
        upload=_created(client, "/v1/uploads", _ANNOUNCED),
        webhook_endpoint=_created(client, "/v1/webhook_endpoints", _ENDPOINT),
        message_batch=_created(client, "/v1/messages/batches", _MESSAGES),
    )
    jobs = (made.job, made.batch, made.message_batch)
    for path in (*(f"/v1/jobs/{job}" for job in jobs), f"/v1/groups/{made.group}"):
        stack.wait_until(lambda path=path: _succeeded(client, path), timeout_s=60, what=path)
    return made


def make_paused_job(client: httpx.Client) -> str:
    """A live job; whatever of it has begun ends within a second."""
    slow = {"input": MARK, "echo": {"delay_s": 0.5}}
    job = _created(client, "/v1/jobs", {**_JOB, "inputs": [{"custom_id": str(n), "body": slow} for n in range(60)]})
    client.post(f"/v1/jobs/{job}/pause").raise_for_status()
    return job


@contextmanager
def cleaned_up(client: httpx.Client) -> Iterator[None]:
    """Leave no schedule of the tenant that could run, and no live job."""
    try:
        yield
    finally:
        for schedule in list(_all(client, "/v1/schedules")):
            client.delete(f"/v1/schedules/{schedule['id']}").raise_for_status()
        for state in _LIVE:
            for job in list(_all(client, "/v1/jobs", state=state)):
                client.post(f"/v1/jobs/{job['id']}/cancel")


def _created(client: httpx.Client, path: str, body: dict[str, Any]) -> str:
    return str(client.post(path, json=body, headers=VERSIONED).raise_for_status().json()["id"])


def _group_lines() -> bytes:
    line = '{"custom_id": "item-%d", "body": {"input": "' + MARK + '"}}\n'
    return "".join(line % number for number in range(_MORE_THAN_A_JOB_TAKES)).encode()


def _upload(client: httpx.Client, lines: bytes = _LINE.encode()) -> str:
    content = {"file": (f"{MARK}.jsonl", lines)}
    answer = client.post("/v1/files", data={"purpose": "batch"}, files=content)
    return str(answer.raise_for_status().json()["id"])


def _succeeded(client: httpx.Client, path: str) -> bool:
    """And it is settled when its results go, which a group learns a moment later."""
    found = client.get(path).raise_for_status().json()
    return found["state"] == "succeeded" and found["results_expire_at"] is not None


def _all(client: httpx.Client, path: str, **query: str) -> Iterator[dict[str, Any]]:
    page = client.get(path, params={**query, "limit": "100"}).raise_for_status().json()
    yield from page["data"]
    while page["has_more"]:
        page = client.get(path, params={**query, "limit": "100", "after": page["last_id"]}).raise_for_status().json()
        yield from page["data"]
