from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import Any

import pytest
from running import answer, failure, items_of, run

from app.domain.items import ItemErrorCode, ItemSucceeded
from workers.engines.base import Stopped
from workers.engines.echo import EchoEngine

CRASH = """
from app.domain.items import InputItem
from workers.engines.echo import EchoEngine
engine = EchoEngine()
window = engine.prepare([InputItem(0, "a", {"input": "x", "echo": {"crash": True}}, 1)])
engine.forward(window.batches[0], should_stop=lambda: False)
"""


@pytest.mark.parametrize("value", ["text", "", 5, [1, "two"], {"a": {"b": None}}, False])
def test_any_json_value_comes_back(value: Any) -> None:
    (outcome,) = run(EchoEngine(), [{"input": value, "model": "echo"}])

    assert answer(outcome) == {"echo": value}


def test_tokens_are_four_characters_each() -> None:
    outcomes = run(EchoEngine(), [{"input": "12345678"}, {"input": "123456789"}, {"input": ""}, {"input": [1, 2]}])

    assert [outcome.input_tokens for outcome in outcomes if isinstance(outcome, ItemSucceeded)] == [2, 3, 0, 2]


@pytest.mark.parametrize("code", list(ItemErrorCode))
def test_an_item_fails_with_any_code_it_asks_for(code: str) -> None:
    (outcome,) = run(EchoEngine(), [{"input": "x", "echo": {"fail": str(code)}}])

    assert failure(outcome).code == code


@pytest.mark.parametrize(("attempt", "fails"), [(1, True), (2, True), (3, False), (4, False)])
def test_fail_times_counts_attempts_of_the_items_life(attempt: int, *, fails: bool) -> None:
    engine = EchoEngine()
    body = {"input": "x", "echo": {"fail": "rate_limited", "fail_times": 2}}
    window = engine.prepare(items_of([body], attempt=attempt))

    (outcome,) = engine.finish(window, [(window.batches[0], None)], [0])

    assert isinstance(outcome, ItemSucceeded) is not fails


def test_a_delay_takes_its_time() -> None:
    started_s = time.monotonic()

    (outcome,) = run(EchoEngine(), [{"input": "x", "echo": {"delay_s": 0.15}}])

    assert answer(outcome) == {"echo": "x"}
    assert time.monotonic() - started_s >= 0.15


def test_a_delay_ends_early_when_the_run_is_stopped() -> None:
    engine = EchoEngine()
    window = engine.prepare(items_of([{"input": "x", "echo": {"delay_s": 60}}]))
    started_s = time.monotonic()

    with pytest.raises(Stopped):
        engine.forward(window.batches[0], should_stop=lambda: time.monotonic() - started_s > 0.1)

    assert time.monotonic() - started_s < 5


def test_crash_kills_the_process_with_sigsegv() -> None:
    ended = subprocess.run([sys.executable, "-c", CRASH], check=False, capture_output=True, timeout=60)

    assert ended.returncode == -signal.SIGSEGV


@pytest.mark.parametrize(
    "controls",
    [
        5,
        [],
        {"dely_s": 1},
        {"delay_s": -1},
        {"delay_s": "1"},
        {"delay_s": True},
        {"delay_s": 3601},
        {"delay_s": float("nan")},
        {"fail": "no_such_code"},
        {"fail": 5},
        {"fail": ["internal"]},
        {"fail": "internal", "fail_times": -1},
        {"fail": "internal", "fail_times": 1.5},
        {"fail": "internal", "fail_times": None},
        {"crash": 1},
        {"delay_s": None},
    ],
)
def test_a_wrong_control_is_refused_and_named(controls: Any) -> None:
    bad, good = run(EchoEngine(), [{"input": "x", "echo": controls}, {"input": "y"}])

    assert failure(bad).code == "invalid_request"
    assert "'echo" in failure(bad).message
    assert answer(good) == {"echo": "y"}


def test_a_missing_input_is_refused() -> None:
    (outcome,) = run(EchoEngine(), [{"echo": {"delay_s": 0}}])

    assert failure(outcome).code == "missing_required_parameter"


def test_a_number_that_json_cannot_hold_is_refused() -> None:
    (outcome,) = run(EchoEngine(), [{"input": 10**30}])

    assert failure(outcome).code == "invalid_request"


def test_fifty_thousand_echoes_take_a_small_part_of_a_second() -> None:
    bodies: list[dict[str, Any]] = [{"input": f"text {i}"} for i in range(50_000)]
    engine = EchoEngine()
    items = items_of(bodies)
    started_s = time.process_time()

    window = engine.prepare(items)
    answers = [(batch, engine.forward(batch, should_stop=lambda: False)) for batch in window.batches]
    n_outcomes = sum(1 for _ in engine.finish(window, answers, range(len(items))))

    assert n_outcomes == 50_000
    assert time.process_time() - started_s < 1
