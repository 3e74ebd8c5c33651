"""Another server's answers become ours; what it refuses, delays or garbles costs the item at fault and no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from running import answer, failure, items_of, run
from scripted_upstream import Request, Said, ScriptedUpstream, completion, error, scripted_upstream

from app.domain.items import ItemErrorCode, ItemOutcome
from app.ports import RunStats
from workers.device_lock import DeviceLock
from workers.engines import upstream as upstream_engine
from workers.engines.adaptive_limit import AdaptiveLimit
from workers.engines.base import AnyEngine
from workers.engines.upstream import UpstreamEngine
from workers.window_runner import WindowRunner

KEY = "sk-very-secret"


@contextmanager
def engine_at(upstream: ScriptedUpstream, *, key: str | None = None, **fields: Any) -> Iterator[UpstreamEngine]:
    engine = UpstreamEngine("our-name", upstream.server(**fields), key=key)
    try:
        yield engine
    finally:
        engine.close()


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": "our-name", "messages": [{"role": "user", "content": text}], **fields}


def ask(script: Callable[[Request], Said], *bodies: dict[str, Any], **fields: Any) -> list[ItemOutcome]:
    with scripted_upstream(script) as upstream, engine_at(upstream, **fields) as engine:
        return run(engine, bodies)


def test_answers_come_in_the_order_of_the_items_under_our_name_of_the_model_and_with_their_usage() -> None:
    with scripted_upstream() as upstream, engine_at(upstream, key=KEY) as engine:
        outcomes = run(engine, [chat(f"text {n}", temperature=0) for n in range(40)])
    assert [answer(each)["choices"][0]["message"]["content"] for each in outcomes] == [f"text {n}" for n in range(40)]
    assert {answer(each)["model"] for each in outcomes} == {"our-name"}
    assert {request["model"] for request in upstream.requests} == {"upstream-name"}
    assert {request["temperature"] for request in upstream.requests} == {0}
    assert set(upstream.keys) == {f"Bearer {KEY}"}
    assert (outcomes[0].input_tokens, outcomes[0].output_tokens) == (6, 2)  # type: ignore[union-attr]


def test_no_more_requests_are_under_way_than_the_server_may_get() -> None:
    def slow(request: Request) -> Said:
        time.sleep(0.01)
        return completion(request)

    with scripted_upstream(slow) as upstream, engine_at(upstream, max_concurrency=6) as engine:
        run(engine, [chat("x") for _ in range(120)])
    assert 4 <= upstream.most_at_once <= 6


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (error(400, "temperature must be positive"), ItemErrorCode.INVALID_REQUEST),
        (error(400, "too long", "context_length_exceeded"), ItemErrorCode.CONTEXT_LENGTH_EXCEEDED),
        (error(400, "This model's maximum context length is 512 tokens"), ItemErrorCode.CONTEXT_LENGTH_EXCEEDED),
        (error(404, "no such model"), ItemErrorCode.MODEL_NOT_FOUND),
        (error(422, "unprocessable"), ItemErrorCode.INVALID_REQUEST),
        (error(504, "gateway timeout"), ItemErrorCode.ITEM_TIMEOUT),
        (error(429, "slow down", retry_after="3600"), ItemErrorCode.RATE_LIMITED),
        (error(503, "starting", retry_after="3600"), ItemErrorCode.UPSTREAM_UNAVAILABLE),
        (Said(200, b"x" * (33 * 1024 * 1024)), ItemErrorCode.INTERNAL),
    ],
)
def test_a_reply_that_is_no_answer_fails_its_item_alone(said: Said, code: ItemErrorCode) -> None:
    outcomes = ask(lambda request: said if "bad" in str(request) else completion(request), chat("good"), chat("bad"))
    assert answer(outcomes[0])["object"] == "chat.completion"
    assert failure(outcomes[1]).code == code
    assert not failure(outcomes[1]).stops_job


def test_a_long_pause_that_the_server_asks_for_is_left_to_the_next_attempt_of_the_item() -> None:
    (outcome,) = ask(lambda _: error(429, "tomorrow", retry_after="3600"), chat("x"))
    assert failure(outcome).retry_after_s == 3600


@pytest.mark.parametrize("busy", [error(429, "busy", retry_after="0"), error(500, "oops"), Said(200, b"<html>")])
def test_a_server_that_is_busy_for_a_moment_is_asked_again(busy: Said) -> None:
    asked: list[str] = []

    def script(request: Request) -> Said:
        asked.append(request["messages"][-1]["content"])
        return busy if asked.count(asked[-1]) == 1 else completion(request)

    outcomes = ask(script, chat("a"), chat("b"))
    assert [answer(each)["object"] for each in outcomes] == ["chat.completion"] * 2
    assert sorted(asked) == ["a", "a", "b", "b"]


@pytest.mark.parametrize("slow", [Said(200, b"{}", delay_s=3.0), Said(200, b'{"a": "dripping"}', drip_s=0.3)])
def test_an_item_that_takes_longer_than_it_may_fails_alone(slow: Said) -> None:
    with (
        scripted_upstream(lambda request: slow if "slow" in str(request) else completion(request)) as upstream,
        engine_at(upstream) as engine,
    ):
        outcomes = run(engine.within(0.5), [chat("slow"), chat("quick")])
    assert failure(outcomes[0]).code == ItemErrorCode.ITEM_TIMEOUT
    assert answer(outcomes[1])["object"] == "chat.completion"


def test_a_server_that_is_not_there_fails_its_items_as_unavailable(
    free_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream_engine, "PATIENT", replace(upstream_engine.PATIENT, most_tries=2))
    upstream = ScriptedUpstream(f"http://127.0.0.1:{free_tcp_port}/v1", completion)
    with engine_at(upstream) as engine:
        (outcome,) = run(engine, [chat("x")])
    assert failure(outcome).code == ItemErrorCode.UPSTREAM_UNAVAILABLE


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_our_key_stops_the_job_and_gets_no_further_requests(status: int) -> None:
    refusal = error(status, f"Incorrect API key provided: {KEY}")
    with scripted_upstream(lambda _: refusal) as upstream, engine_at(upstream, key=KEY) as engine:
        outcomes = run(engine, [chat("x") for _ in range(200)])
    assert outcomes
    assert all(failure(each).stops_job for each in outcomes)
    assert len(upstream.requests) < 20
    assert KEY not in "".join(failure(each).message for each in outcomes)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "our-name"}, ItemErrorCode.MISSING_REQUIRED_PARAMETER),
        (chat("x", stream=True), ItemErrorCode.INVALID_REQUEST),
    ],
)
def test_a_body_that_no_server_could_answer_is_refused_unasked(body: dict[str, Any], code: ItemErrorCode) -> None:
    with scripted_upstream() as upstream, engine_at(upstream) as engine:
        (outcome,) = run(engine, [body])
    assert failure(outcome).code == code
    assert upstream.requests == []


def test_a_stop_gives_up_what_is_under_way_and_keeps_what_was_answered() -> None:
    stopping = threading.Event()

    def script(request: Request) -> Said:
        if "last" in str(request):
            stopping.set()
            return Said(200, b"{}", delay_s=5)
        return completion(request)

    with scripted_upstream(script) as upstream, engine_at(upstream, max_concurrency=1) as engine:
        outcomes = forwarded_until(engine, [chat("first"), chat("last"), chat("never")], stopping)
    assert [answer(each)["choices"][0]["message"]["content"] for each in outcomes] == ["first"]
    assert len(upstream.requests) == 2


def forwarded_until(engine: AnyEngine, bodies: list[dict[str, Any]], stopping: threading.Event) -> list[ItemOutcome]:
    runner = WindowRunner(engine, hold_device=DeviceLock().bulk, should_stop=stopping.is_set, stats=RunStats())
    return list(runner.finish(runner.forward(engine.prepare(items_of(bodies)))))


def test_each_route_is_asked_where_the_server_has_it_and_needs_its_own_field() -> None:
    with scripted_upstream(lambda _: Said(body={"object": "list"})) as upstream, engine_at(upstream) as engine:
        for endpoint, field in upstream_engine.REQUIRED.items():
            served = engine.serving(endpoint)
            assert answer(run(served, [{field: "x"}])[0]) == {"object": "list", "model": "our-name"}
            assert failure(run(served, [{"other": "x"}])[0]).message.startswith(f"'{field}'")
    assert upstream.paths == list(upstream_engine.REQUIRED)


def test_a_request_that_somebody_waits_for_passes_what_a_job_has_waiting() -> None:
    def slow(request: Request) -> Said:
        return replace(completion(request), delay_s=0.2)

    with scripted_upstream(slow) as upstream, engine_at(upstream, max_concurrency=8) as engine:
        batch = threading.Thread(target=run, args=(engine, [chat(f"item {n}") for n in range(30)]))
        batch.start()
        while not upstream.requests:
            time.sleep(0.01)
        started_s = time.monotonic()
        (outcome,) = run(engine.urgent(), [chat("somebody waits")])
        took_s = time.monotonic() - started_s
        n_before = len(upstream.requests)
        batch.join()
    assert answer(outcome)["object"] == "chat.completion"
    assert n_before < 25, "the batch was through before"
    assert took_s < 1.0


def test_a_busy_server_is_not_asked_for_long_while_somebody_waits() -> None:
    with scripted_upstream(lambda _: error(429, "busy", retry_after="7")) as upstream, engine_at(upstream) as engine:
        (outcome,) = run(engine.urgent(), [chat("x")])
    assert failure(outcome).code == ItemErrorCode.RATE_LIMITED
    assert failure(outcome).retry_after_s == 7
    assert len(upstream.requests) == 1


def test_the_limit_grows_by_one_a_round_and_halves_once_for_those_that_fail_together() -> None:
    limit = AdaptiveLimit(most=8)
    for _ in range(100):
        limit.answered()
    assert limit.now == 8
    sent_in = limit.round
    for _ in range(8):
        limit.overloaded(sent_in)
    assert limit.now == 4
    for _ in range(10):
        limit.overloaded(limit.round)
    assert limit.now == 1
