"""Retry on the real stack: one final result, also when a worker is killed in the middle of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from checker import Checker
from running_stack import RunningStack
from seeded_work import SeededItem, expected_of, failing, good, healed, retried

from app.wiring import Wiring, build_wiring
from config.settings import Settings

PATIENCE_S = 90
ITEMS = [
    *(good(f"good-{n}") for n in range(20)),
    *(healed(f"healed-{n}") for n in range(6)),
    retried("limited", fail_times=4),
    failing("hopeless"),
]
ENDED = {"succeeded", "partially_succeeded", "failed", "expired", "cancelled"}


@pytest.fixture
def client(stack: RunningStack) -> Iterator[httpx.Client]:
    stack.wait_until_ready()
    with stack.client() as made:
        yield made


@pytest.fixture
def wiring(stack: RunningStack) -> Iterator[Wiring]:
    made = build_wiring(Settings.from_environ(stack.settings))
    yield made
    made.database.close()


def submitted(client: httpx.Client, items: list[SeededItem]) -> str:
    inputs = [{"custom_id": item.custom_id, "body": item.body} for item in items]
    made = client.post("/v1/jobs", json={"endpoint": "/v1/echo", "inputs": inputs}).raise_for_status().json()
    return f"/v1/jobs/{made['id']}"


def wait_for_the_end(stack: RunningStack, client: httpx.Client, path: str) -> dict[str, Any]:
    stack.wait_until(lambda: client.get(path).json()["state"] in ENDED, timeout_s=PATIENCE_S, what=path)
    shown: dict[str, Any] = client.get(path).json()
    return shown


def results_of(client: httpx.Client, path: str) -> dict[str, dict[str, Any]]:
    lines = [orjson.loads(line) for line in client.get(f"{path}/results").raise_for_status().content.splitlines()]
    found = {line["custom_id"]: line for line in lines}
    assert len(found) == len(lines), "an item has two lines"
    return found


def test_a_retry_heals_what_can_be_healed_and_leaves_one_final_result(
    stack: RunningStack, client: httpx.Client, wiring: Wiring
) -> None:
    path = submitted(client, ITEMS)
    before = wait_for_the_end(stack, client, path)
    assert (before["counts"]["succeeded"], before["counts"]["failed"]) == (20, 8)
    first = results_of(client, path)
    client.post(f"{path}/retry", json={"include": ["failed"]}).raise_for_status()
    after = wait_for_the_end(stack, client, path)
    assert (after["state"], after["attempt_runs"]) == ("partially_succeeded", 1)
    assert (after["counts"]["succeeded"], after["counts"]["failed"]) == (27, 1)
    second = results_of(client, path)
    assert {name: line for name, line in second.items() if first[name]["status"] == "succeeded"} == {
        name: line for name, line in first.items() if line["status"] == "succeeded"
    }
    assert (second["healed-0"]["attempts"], second["limited"]["attempts"], second["hopeless"]["attempts"]) == (2, 5, 2)
    Checker(wiring.database, wiring.storage).check_job(after["id"], expected_of(ITEMS))


def test_a_worker_that_is_killed_in_a_retry_loses_and_doubles_nothing(
    stack: RunningStack, client: httpx.Client, wiring: Wiring
) -> None:
    items = [healed(f"slow-{n}", delay_s=0.2) for n in range(40)] + [good("good")]
    path = submitted(client, items)
    assert wait_for_the_end(stack, client, path)["counts"]["failed"] == 40
    client.post(f"{path}/retry").raise_for_status()
    stack.wait_until(lambda: client.get(path).json()["counts"]["running"] > 0, timeout_s=30, what="the retry runs")
    for name in [name for name in stack.pids() if name.startswith(("cpu.", "gpu."))]:
        stack.kill(name)
    after = wait_for_the_end(stack, client, path)
    assert (after["state"], after["counts"]["succeeded"]) == ("succeeded", 41)
    Checker(wiring.database, wiring.storage).check_job(after["id"], expected_of(items))
