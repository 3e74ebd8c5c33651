"""Chat while the client waits: beside others' requests, whatever the server behind the model does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import orjson
import pytest
from scripted_upstream import Request, Said, ScriptedUpstream, completion, error, scripted_upstream

from app.broker.connections import broker_connection
from app.broker.sync_client import KombuSyncLane
from app.errors import ContextLengthExceeded, DependencyFailed, InvalidRequest, NightshiftError, SyncTimedOut
from app.services.answer_sync import answer_sync
from app.services.register_worker import register_worker, unregister_worker
from app.wiring import Wiring
from config.models import ModelVersion
from config.queues import sync_lane_queue
from workers.device_lock import DeviceLock
from workers.engines.base import DeviceLost
from workers.engines.registry import EngineRegistry
from workers.engines.upstream import UpstreamEngine
from workers.sync_lane import SyncLaneServer

CHAT = "/v1/chat/completions"


@pytest.fixture
def pool(wiring: Wiring) -> Iterator[str]:
    """A pool of its own, with a queue for requests."""
    name = f"chat{uuid4().hex[:12]}"
    with broker_connection(wiring.settings) as connection:
        queue = sync_lane_queue(name)(connection.default_channel)
        queue.declare()
        yield name
        queue.delete()


@pytest.fixture
def lane(wiring: Wiring) -> Iterator[KombuSyncLane]:
    made = KombuSyncLane(wiring.settings)
    yield made
    made.close()


@contextmanager
def chatting(wiring: Wiring, pool: str, upstream: ScriptedUpstream) -> Iterator[tuple[Wiring, SyncLaneServer]]:
    """A worker that serves ``chat``, which the server has, and ``echo``."""
    version = ModelVersion(name="v1", package=None, path=None, precision="fp32", upstream=upstream.server())
    echo = replace(wiring.models["echo"], pools=(pool,))
    chat = replace(echo, alias="chat", engine="upstream", endpoints=(CHAT,), versions={"v1": version})
    own = replace(wiring, models=MappingProxyType({"echo": echo, "chat": chat}))
    queue, incarnation = f"{pool}.0", uuid4().hex
    engines = EngineRegistry(own.models, pool=pool, device="cpu")
    server = SyncLaneServer(own.settings, pool=pool, engines=engines, device_lock=DeviceLock())
    thread = threading.Thread(target=server.run)
    thread.start()
    register_worker(
        database=own.database, queue=queue, host="test", incarnation=incarnation, warm_models=(), silence_s=60.0
    )
    try:
        yield own, server
    finally:
        server.should_stop = True
        thread.join()
        server.close()
        unregister_worker(database=own.database, queue=queue, incarnation=incarnation)
        engine = engines.engine(model="chat", version="v1", endpoint=CHAT)
        assert isinstance(engine, UpstreamEngine)
        engine.close()


def ask(own: Wiring, lane: KombuSyncLane, text: str, *, timeout_s: float = 20, **fields: Any) -> str:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
    answer = orjson.loads(answer_sync(wiring=own, lane=lane, endpoint=CHAT, body=body, timeout_s=timeout_s))
    return str(answer["choices"][0]["message"]["content"])


def _slowly(request: Request) -> Said:
    return replace(completion(request), delay_s=0.5)


def test_many_wait_for_the_server_at_once_and_nobody_for_them(wiring: Wiring, lane: KombuSyncLane, pool: str) -> None:
    with (
        scripted_upstream(_slowly) as upstream,
        chatting(wiring, pool, upstream) as (own, _),
        ThreadPoolExecutor(20) as threads,
    ):
        texts = [f"text {number}" for number in range(12)]
        asked = [threads.submit(ask, own, lane, text) for text in texts]
        while not upstream.requests:
            time.sleep(0.01)
        echo = {"model": "echo", "input": "quick"}
        assert orjson.loads(answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body=echo)) == {"echo": "quick"}
        assert not all(each.done() for each in asked)
        assert [each.result() for each in asked] == texts
        assert upstream.most_at_once >= 6


@pytest.mark.parametrize(
    ("said", "refusal", "retry_after_s"),
    [
        (error(429, "busy", retry_after="7"), DependencyFailed, 7),
        (error(401, "wrong key"), DependencyFailed, None),
        (error(400, "'temperature' must be positive"), InvalidRequest, None),
        (error(400, "too long", "context_length_exceeded"), ContextLengthExceeded, None),
    ],
)
def test_what_the_server_says_reaches_the_client_as_its_error(
    wiring: Wiring,
    lane: KombuSyncLane,
    pool: str,
    said: Said,
    refusal: type[NightshiftError],
    retry_after_s: float | None,
) -> None:
    with (
        scripted_upstream(lambda _: said) as upstream,
        chatting(wiring, pool, upstream) as (own, _),
        pytest.raises(refusal) as refused,
    ):
        ask(own, lane, "x")
    assert refused.value.retry_after_s == retry_after_s


def test_a_server_that_takes_too_long_is_given_up_at_the_deadline(
    wiring: Wiring, lane: KombuSyncLane, pool: str
) -> None:
    with (
        scripted_upstream(lambda request: replace(completion(request), delay_s=3.0)) as upstream,
        chatting(wiring, pool, upstream) as (own, _),
    ):
        with pytest.raises(SyncTimedOut):
            ask(own, lane, "x", timeout_s=0.5)
        echo = {"model": "echo", "input": "next"}
        assert orjson.loads(answer_sync(wiring=own, lane=lane, endpoint="/v1/echo", body=echo)) == {"echo": "next"}


def test_a_stream_is_refused_before_anybody_is_asked(wiring: Wiring, lane: KombuSyncLane, pool: str) -> None:
    with scripted_upstream() as upstream, chatting(wiring, pool, upstream) as (own, _):
        with pytest.raises(InvalidRequest) as refused:
            ask(own, lane, "x", stream=True)
        assert upstream.requests == []
    assert (refused.value.param, refused.value.reported_code) == ("stream", "streaming_unsupported")


def test_a_device_that_is_lost_beside_the_lane_ends_the_lane(
    wiring: Wiring, lane: KombuSyncLane, pool: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_arguments: object, **_options: object) -> None:
        raise DeviceLost("gone")

    monkeypatch.setattr(UpstreamEngine, "forward", lose)
    with scripted_upstream() as upstream, chatting(wiring, pool, upstream) as (own, server):
        with pytest.raises(SyncTimedOut):
            ask(own, lane, "x", timeout_s=1)
        with pytest.raises(DeviceLost):
            server.serve()
