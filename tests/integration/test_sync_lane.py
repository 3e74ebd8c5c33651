from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import orjson
import pytest
from kombu import Consumer, Queue

from app.broker.connections import broker_connection
from app.broker.sync_client import KombuSyncLane
from app.domain.items import InputItem
from app.errors import (
    BrokerUnavailable,
    InvalidRequest,
    MissingParameter,
    ModelNotFound,
    NoWorkerForModel,
    SyncTimedOut,
)
from app.services.answer_sync import answer_sync
from app.services.register_worker import register_worker, unregister_worker
from app.wiring import Wiring
from config.queues import sync_lane_queue, sync_queue
from config.settings import Settings
from workers.device_lock import DeviceLock
from workers.engines.echo import EchoEngine
from workers.engines.registry import EngineRegistry
from workers.sync_lane import MOST_TOGETHER, SyncLaneServer

ECHO = {"endpoint": "/v1/echo", "model": "echo", "version": "v1"}


@pytest.fixture(params=["rabbitmq", "redis"])
def settings(request: pytest.FixtureRequest, wiring: Wiring) -> Settings:
    """The broker as it is configured, and Redis in its place."""
    if request.param == "redis":
        return replace(wiring.settings, broker_url=wiring.settings.redis_url)
    return wiring.settings


@pytest.fixture
def pool(settings: Settings) -> Iterator[str]:
    """A pool of its own, so that the workers of a running stack take no part."""
    name = f"test{uuid4().hex[:12]}"
    yield name
    with broker_connection(settings) as connection:
        sync_lane_queue(name)(connection.default_channel).delete()


@pytest.fixture
def own(wiring: Wiring, settings: Settings, pool: str) -> Wiring:
    """The wiring, with echo living on that pool alone, under two names."""
    echo = replace(wiring.models["echo"], pools=(pool,))
    models = {"echo": echo, "other": replace(echo, alias="other")}
    return replace(wiring, settings=settings, models=MappingProxyType(models))


@pytest.fixture
def serve(own: Wiring, pool: str) -> Iterator[Callable[..., SyncLaneServer]]:
    """Start a worker's side of the lane."""
    servers: list[tuple[SyncLaneServer, threading.Thread]] = []

    def start(*, reopens: bool = False) -> SyncLaneServer:
        engines = EngineRegistry(own.models, pool=pool, device="cpu")
        server = SyncLaneServer(own.settings, pool=pool, engines=engines, device_lock=DeviceLock())
        thread = threading.Thread(target=server.serve if reopens else server.run, daemon=reopens)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.set_open(False)
        thread.join(timeout=5 if thread.daemon else None)
        server.close()


@pytest.fixture
def lane(settings: Settings, pool: str) -> Iterator[KombuSyncLane]:
    with broker_connection(settings) as connection:
        sync_lane_queue(pool)(connection.default_channel).declare()
    made = KombuSyncLane(settings)
    yield made
    made.close()


def _ask(lane: KombuSyncLane, pool: str, text: str, *, timeout_s: float = 20, **controls: Any) -> Any:
    body = {"input": text, "echo": controls} if controls else {"input": text}
    reply = lane.call(pool=pool, request={**ECHO, "body": body}, timeout_s=timeout_s)
    return orjson.loads(reply["body"])["echo"] if "body" in reply else reply["error"]


def test_a_worker_of_the_pool_answers(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    serve()

    assert _ask(lane, pool, "hello") == "hello"


def test_each_of_many_threads_gets_its_own_answer(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    serve()
    serve()
    texts = [f"text {number}" for number in range(60)]

    with ThreadPoolExecutor(max_workers=12) as threads:
        answers = list(threads.map(lambda text: _ask(lane, pool, text), texts))

    assert answers == texts


def test_what_is_wrong_with_the_item_comes_back_as_its_code(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    serve()

    assert _ask(lane, pool, "x", fail="rate_limited")["code"] == "rate_limited"
    assert _ask(lane, pool, "x", no_such_control=1)["code"] == "invalid_request"
    assert _ask(lane, pool, "still here") == "still here"


def test_an_unknown_model_or_route_is_no_crash(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    serve()

    for wrong in ({"model": "absent"}, {"version": "v9"}, {"endpoint": "/v1/embeddings"}):
        reply = lane.call(pool=pool, request={**ECHO, **wrong, "body": {"input": "x"}}, timeout_s=20)
        assert reply["error"]["code"] == "model_not_found"


def test_a_bug_on_one_request_leaves_the_lane_alive(
    serve: Any, lane: KombuSyncLane, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumbles(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    serve()
    with monkeypatch.context() as patch:
        patch.setattr(EchoEngine, "prepare", stumbles)
        assert _ask(lane, pool, "hello")["code"] == "internal"

    assert _ask(lane, pool, "hello") == "hello"


@pytest.fixture
def window_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each window of echo held; its requests may join from now on."""
    sizes: list[int] = []
    prepare = EchoEngine.prepare

    def counted(self: EchoEngine, items: Sequence[InputItem], *, on_oversize: str = "fail") -> Any:
        sizes.append(len(items))
        if len(items) > 1 and any(item.body["input"] == "stumble" for item in items):
            raise ZeroDivisionError
        return prepare(self, items, on_oversize=on_oversize)

    monkeypatch.setattr(EchoEngine, "joins_requests", True)
    monkeypatch.setattr(EchoEngine, "prepare", counted)
    return sizes


def _ask_while_busy(lane: KombuSyncLane, pool: str, texts: Sequence[str]) -> list[Any]:
    """Keep the one worker busy, so that the requests for ``texts`` wait in the queue together."""
    with ThreadPoolExecutor(max_workers=len(texts) + 1) as threads:
        threads.submit(_ask, lane, pool, "keeps it busy", delay_s=1.0)
        time.sleep(0.5)
        return list(threads.map(lambda text: _ask(lane, pool, text), texts))


def test_requests_that_wait_together_run_as_one_window(
    serve: Any, lane: KombuSyncLane, pool: str, window_sizes: list[int]
) -> None:
    serve()
    texts = [f"text {number}" for number in range(6)]

    assert _ask_while_busy(lane, pool, texts) == texts
    assert max(window_sizes) > 1
    assert sum(window_sizes) == 7


@pytest.mark.parametrize("settings", ["rabbitmq"], indirect=True)  # which says how many wait
def test_of_a_mixed_queue_no_more_is_taken_than_may_run_together(
    serve: Any, lane: KombuSyncLane, pool: str, own: Wiring, window_sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    n_requests, held = 3 * MOST_TOGETHER, []

    def n_waiting() -> int:
        with broker_connection(own.settings) as connection:
            return int(connection.default_channel.queue_declare(sync_queue(pool), passive=True).message_count)

    def ask(number: int) -> Any:
        request = {**ECHO, "model": ("echo", "other")[number % 2], "body": {"input": f"text {number}"}}
        return lane.call(pool=pool, request=request, timeout_s=60)

    prepare = EchoEngine.prepare

    def counted(self: EchoEngine, items: Sequence[InputItem], *, on_oversize: str = "fail") -> Any:
        held.append(n_requests - sum(window_sizes) - n_waiting())
        return prepare(self, items, on_oversize=on_oversize)

    monkeypatch.setattr(EchoEngine, "prepare", counted)
    with ThreadPoolExecutor(max_workers=n_requests) as threads:
        asked = [threads.submit(ask, number) for number in range(n_requests)]
        while n_waiting() < n_requests:
            time.sleep(0.05)
        serve()
        assert all("body" in each.result() for each in asked)
    assert max(window_sizes) > 1
    assert max(held) <= MOST_TOGETHER


def test_a_bug_that_one_of_them_meets_costs_the_others_nothing(
    serve: Any, lane: KombuSyncLane, pool: str, window_sizes: list[int]
) -> None:
    serve()
    texts = ["one", "stumble", "two"]

    assert _ask_while_busy(lane, pool, texts) == texts
    assert max(window_sizes) > 1


def test_without_a_worker_the_call_ends_at_its_deadline(lane: KombuSyncLane, pool: str) -> None:
    started_s = time.monotonic()

    with pytest.raises(SyncTimedOut):
        _ask(lane, pool, "anybody?", timeout_s=1)

    assert 0.9 < time.monotonic() - started_s < 6


def _times_out(lane: KombuSyncLane, pool: str) -> bool:
    try:
        _ask(lane, pool, "while closed", timeout_s=1)
    except SyncTimedOut:
        return True
    return False


def test_a_lane_that_is_closed_takes_nothing_until_it_is_opened_again(
    serve: Any, lane: KombuSyncLane, pool: str
) -> None:
    server = serve(reopens=True)
    assert _ask(lane, pool, "while open") == "while open"
    server.set_open(False)
    assert any(_times_out(lane, pool) for _ in range(20)), "a closed lane went on answering"
    server.set_open(True)
    assert _ask(lane, pool, "once more") == "once more"


def test_a_request_past_its_deadline_is_not_run_and_blocks_nobody(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    with pytest.raises(SyncTimedOut):
        _ask(lane, pool, "too early", timeout_s=0.5, delay_s=60)

    serve()

    assert _ask(lane, pool, "next", timeout_s=10) == "next"


def test_an_item_that_outlasts_its_deadline_is_given_up_by_the_worker(
    serve: Any, lane: KombuSyncLane, pool: str
) -> None:
    serve()
    _ask(lane, pool, "warm")

    assert _is_given_up(lane, pool)
    assert _ask(lane, pool, "next", timeout_s=10) == "next"


def _is_given_up(lane: KombuSyncLane, pool: str) -> bool:
    """Whose clock is a little ahead says so: the worker that runs the item, or the client that waits for it."""
    try:
        reply = _ask(lane, pool, "slow", timeout_s=1, delay_s=60)
    except SyncTimedOut:
        return True
    return bool(reply["code"] == "item_timeout")


def test_an_unreachable_broker_is_said_at_once_and_hangs_nobody(wiring: Wiring) -> None:
    nowhere = replace(wiring.settings, broker_url="amqp://x:y@127.0.0.1:1/none", broker_timeout_s=1.0)
    lane = KombuSyncLane(nowhere)
    started_s = time.monotonic()

    with pytest.raises(BrokerUnavailable) as refused:
        lane.call(pool="cpu", request={**ECHO, "body": {"input": "x"}}, timeout_s=20)

    assert time.monotonic() - started_s < 8
    assert refused.value.retry_after_s is not None
    lane.close()


@pytest.mark.parametrize("settings", ["rabbitmq"], indirect=True)  # the Redis client reconnects by itself
def test_a_connection_that_broke_while_resting_is_opened_again(serve: Any, lane: KombuSyncLane, pool: str) -> None:
    server = serve()
    _ask(lane, pool, "first")

    for publisher in (lane._requests, server._replies):
        publisher._connection.connection.transport.sock.close()

    assert _ask(lane, pool, "second") == "second"


# Redis hands an unfinished message out again only after an hour, long past any deadline.
@pytest.mark.parametrize("settings", ["rabbitmq"], indirect=True)
def test_a_request_that_killed_a_worker_is_not_given_to_the_next(
    serve: Any, lane: KombuSyncLane, pool: str, settings: Settings
) -> None:
    with ThreadPoolExecutor() as threads:
        asked = threads.submit(_ask, lane, pool, "deadly", timeout_s=5)
        _take_and_die(settings, pool)
        serve()

        assert _ask(lane, pool, "next") == "next"
        with pytest.raises(SyncTimedOut):
            asked.result()


def _take_and_die(settings: Settings, pool: str) -> None:
    """Receive one message and close the connection without having acknowledged it."""
    taken: list[Any] = []
    with broker_connection(settings) as connection:
        queue = Queue(sync_queue(pool), no_declare=True)
        with Consumer(connection.default_channel, queues=[queue], on_message=taken.append, prefetch_count=1):
            while not taken:
                connection.drain_events(timeout=10)


def _register(own: Wiring, pool: str) -> Callable[[], None]:
    queue, incarnation = f"{pool}.0", uuid4().hex
    register_worker(
        database=own.database, queue=queue, host="test", incarnation=incarnation, warm_models=("echo",), silence_s=20.0
    )
    return lambda: unregister_worker(database=own.database, queue=queue, incarnation=incarnation)


def test_a_request_is_answered_by_a_live_pool_of_its_model(
    own: Wiring, serve: Any, lane: KombuSyncLane, pool: str
) -> None:
    serve()
    leave = _register(own, pool)

    answer = answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body={"model": "echo", "input": "hi"})

    assert orjson.loads(answer) == {"echo": "hi"}
    wrong = {"model": "echo", "input": "hi", "echo": {"delay_s": "soon"}}
    with pytest.raises(InvalidRequest) as refused:
        answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body=wrong)
    assert refused.value.param == "echo.delay_s"
    leave()


def test_without_a_live_worker_the_client_is_told_when_to_come_back(own: Wiring, lane: KombuSyncLane) -> None:
    with pytest.raises(NoWorkerForModel) as refused:
        answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body={"model": "echo", "input": "hi"})

    assert refused.value.retry_after_s is not None


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"input": "x"}, MissingParameter),
        ({"model": 5, "input": "x"}, InvalidRequest),
        ({"model": "absent", "input": "x"}, ModelNotFound),
    ],
)
def test_a_request_without_a_usable_model_is_refused_before_it_is_sent(
    own: Wiring, lane: KombuSyncLane, body: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body=body)


def test_a_model_of_another_route_is_refused(own: Wiring, lane: KombuSyncLane) -> None:
    with pytest.raises(InvalidRequest, match="/v1/echo"):
        answer_sync(wiring=own, lane=lane, endpoint="/v1/embeddings", body={"model": "echo", "input": "x"})
