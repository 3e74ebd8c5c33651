"""A file with every kind of item, through the OpenAI dialect and natively: every custom_id once, as it was seeded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import orjson
import pytest
from running_stack import RunningStack
from seeded_work import SeededItem, bad_body, crashing, expected_of, failing, good, input_file, retried

PATIENCE_S = 90
ITEMS = [
    good("good-1"),
    bad_body("bad-body"),
    failing("too-long", code="context_length_exceeded"),
    retried("second-time-lucky"),
    failing("always-limited", code="rate_limited"),
    good("good-2"),
    crashing("poison"),
    good("beside-the-poison"),
]
ENDED = {"completed", "failed", "expired", "cancelled", "succeeded", "partially_succeeded"}


@pytest.fixture(scope="module")
def batch(running_stack: RunningStack) -> Iterator[openai.types.Batch]:
    """The file as a batch that has ended."""
    running_stack.wait_until_ready()
    with openai.OpenAI(base_url=f"{running_stack.url}/v1", api_key=running_stack.api_key) as client:
        content = input_file(ITEMS, endpoint="/v1/echo")
        file = client.files.create(file=("mixed.jsonl", content), purpose="batch")
        endpoint: Any = "/v1/echo"
        made = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
        running_stack.wait_until(
            lambda: client.batches.retrieve(made.id).status in ENDED, timeout_s=PATIENCE_S, what=f"the end of {made.id}"
        )
        yield client.batches.retrieve(made.id)


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    with stack.client() as made:
        yield made


def lines_of(client: httpx.Client, path: str) -> list[dict[str, Any]]:
    content = client.get(path).raise_for_status().content
    assert content.endswith(b"\n")
    return [orjson.loads(line) for line in content.splitlines()]


def succeeded(items: list[SeededItem]) -> set[str]:
    return {item.custom_id for item in items if item.expected.status == "succeeded"}


def test_every_custom_id_is_in_exactly_one_of_the_two_files(batch: openai.types.Batch, client: httpx.Client) -> None:
    assert batch.status == "completed"
    assert batch.request_counts is not None
    n_good = len(succeeded(ITEMS))
    assert batch.request_counts.model_dump() == {
        "total": len(ITEMS),
        "completed": n_good,
        "failed": len(ITEMS) - n_good,
    }
    output = lines_of(client, f"/v1/files/{batch.output_file_id}/content")
    errors = lines_of(client, f"/v1/files/{batch.error_file_id}/content")
    assert sorted(line["custom_id"] for line in output) == sorted(succeeded(ITEMS))
    assert sorted(line["custom_id"] for line in (*output, *errors)) == sorted(expected_of(ITEMS))
    ids = [line["id"] for line in (*output, *errors)]
    assert len(set(ids)) == len(ids)


def test_each_line_says_what_its_item_was_seeded_with(batch: openai.types.Batch, client: httpx.Client) -> None:
    expected = expected_of(ITEMS)
    for line in lines_of(client, f"/v1/files/{batch.output_file_id}/content"):
        assert (line["response"]["status_code"], line["error"]) == (200, None)
        assert line["response"]["body"] == expected[line["custom_id"]].body
    for line in lines_of(client, f"/v1/files/{batch.error_file_id}/content"):
        assert line["response"]["status_code"] >= 400
        assert line["response"]["body"]["error"]["code"] == expected[line["custom_id"]].code


def test_the_same_job_reads_natively_item_by_item(batch: openai.types.Batch, client: httpx.Client) -> None:
    job_id = batch.id.replace("batch_", "job_")
    job = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
    assert job["state"] == "partially_succeeded"
    counts = job["counts"]
    assert counts["total"] == len(ITEMS) == sum(number for name, number in counts.items() if name != "total")
    assert counts["failed"] == sum(job["errors"]["by_code"].values())
    lines = lines_of(client, f"/v1/jobs/{job_id}/results")
    assert {line["custom_id"]: line["index"] for line in lines} == {item.custom_id: n for n, item in enumerate(ITEMS)}
    assert len(lines) == len(ITEMS)
    for line in lines:
        wanted = expected_of(ITEMS)[line["custom_id"]]
        assert line["status"] == wanted.status
        assert (line["error"] or {}).get("code") == wanted.code
        assert (line["response"] or {}).get("body") == wanted.body


def test_attempts_tell_how_often_an_item_was_tried(batch: openai.types.Batch, client: httpx.Client) -> None:
    lines = lines_of(client, f"/v1/jobs/{batch.id.replace('batch_', 'job_')}/results")
    attempts = {line["custom_id"]: line["attempts"] for line in lines}
    assert attempts["good-1"] == attempts["too-long"] == attempts["bad-body"] == 1
    assert attempts["second-time-lucky"] == 2
    assert attempts["always-limited"] == 3


def test_a_native_job_of_the_same_items_ends_the_same(stack: RunningStack, client: httpx.Client) -> None:
    items = [item for item in ITEMS if item.custom_id != "poison"]
    inputs = [{"custom_id": item.custom_id, "body": item.body} for item in items]
    job = client.post("/v1/jobs", json={"endpoint": "/v1/echo", "inputs": inputs}).raise_for_status().json()
    path = f"/v1/jobs/{job['id']}"
    stack.wait_until(lambda: client.get(path).json()["state"] in ENDED, timeout_s=PATIENCE_S, what=path)
    found = {line["custom_id"]: line for line in lines_of(client, f"{path}/results")}
    assert {name: line["status"] for name, line in found.items()} == {i.custom_id: i.expected.status for i in items}
    one = client.get(f"{path}/results/second-time-lucky").raise_for_status().json()
    assert one == found["second-time-lucky"]
