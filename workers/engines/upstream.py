"""Chat, completions and embeddings by an OpenAI-compatible server beside the worker.

Many requests are under way at once, as many as the server bears: one more for each round of answers, half after it
was too busy. Nothing here holds the device, so synchronous requests and batches run side by side.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import orjson

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from app.domain.retries import retry_delay_s
from config.models import UpstreamServer
from workers.engines.adaptive_limit import AdaptiveLimit
from workers.engines.base import BadItem, Engine, Stopped, invalid
from workers.engines.upstream_replies import Verdict, judge
from workers.engines.upstream_server import UpstreamClient

REQUIRED = {"messages": "/chat/completions", "prompt": "/completions", "input": "/embeddings"}
"""The field that a body cannot do without -> the route it belongs to."""
MOST_TRIES = 5
"""Of one attempt: a busy server is asked again so often before the item waits for its next attempt."""
LONGEST_REST_S = 30.0
"""A server that asks for a longer pause is left alone: the item comes again with its next attempt."""
LOOK_S = 0.05
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Request:
    """One item, as the server takes it."""

    index: int
    route: str
    body: bytes


@dataclass(frozen=True, slots=True)
class UpstreamBatch:
    """Items to ask for together; each fails alone, so it is never cut."""

    requests: Mapping[int, Request]
    """By position in the window."""

    @property
    def positions(self) -> Sequence[int]:
        """See ``Batch``."""
        return tuple(self.requests)

    def halves(self) -> tuple[Self, Self] | None:
        """Never needed."""
        return None


@dataclass(slots=True)
class UpstreamWindow:
    """Checked items."""

    items: Sequence[InputItem]
    refused: dict[int, ItemFailed] = field(default_factory=dict)
    batches: list[UpstreamBatch] = field(default_factory=list)


Answers = dict[int, ItemOutcome]
"""By position in the window."""


class UpstreamEngine(Engine[UpstreamWindow, UpstreamBatch, Answers]):
    """Asks another server; thread-safe."""

    uses_device = False
    keeps_item_timeout = True
    window_items = 256

    def __init__(self, alias: str, server: UpstreamServer, *, key: str | None) -> None:
        """Start the loop that all requests to this server share.

        Args:
            key: the server's key, where it wants one.
        """
        self._alias = alias
        self._server = server
        self.timeout_s = server.request_timeout_s
        """What one request may take."""
        self._loop = _LoopThread(f"upstream-{alias}")
        self._crowd = _Crowd(server, self._loop.run(_made(server, key)))

    def within(self, item_timeout_s: float | None) -> UpstreamEngine:
        """See ``Engine.within``; connections and limit are shared."""
        if item_timeout_s is None:
            return self
        bound = copy.copy(self)
        bound.timeout_s = min(item_timeout_s, self._server.request_timeout_s)
        return bound

    def close(self) -> None:
        """End the loop and its connections."""
        self._loop.run(self._crowd.client.close())
        self._loop.close()

    def prepare(self, items: Sequence[InputItem], *, on_oversize: str = "fail") -> UpstreamWindow:  # noqa: ARG002 - the server counts the tokens
        """Check what can be checked here and write the request bodies."""
        window = UpstreamWindow(items=items)
        requests = {}
        for position, item in enumerate(items):
            try:
                requests[position] = self._request(item)
            except BadItem as problem:
                window.refused[position] = problem.outcome(item.index)
        if requests:
            window.batches.append(UpstreamBatch(requests))
        return window

    def forward(self, batch: UpstreamBatch, *, should_stop: Callable[[], bool]) -> Answers:
        """Ask for every item; what is still under way when ``should_stop()`` becomes true is given up.

        Raises:
            Stopped: with what was answered by then.
        """
        asking = self._crowd.ask(batch, timeout_s=self.timeout_s, should_stop=should_stop)
        answers = self._loop.run(asking)
        if len(answers) < len(batch.requests):
            answered = {position: batch.requests[position] for position in answers}
            raise Stopped((replace(batch, requests=answered), answers))
        return answers

    def finish(
        self,
        window: UpstreamWindow,  # noqa: ARG002
        answers: Sequence[tuple[UpstreamBatch, Answers]],
        positions: Sequence[int],
    ) -> Iterator[ItemOutcome]:
        """Give the answers out, under our name of the model."""
        by_position = {position: outcome for _, each in answers for position, outcome in each.items()}
        for position in positions:
            yield _named(by_position[position], self._alias)

    def _request(self, item: InputItem) -> Request:
        route = next((route for name, route in REQUIRED.items() if item.body.get(name) is not None), None)
        if route is None:
            fields = ", ".join(f"'{name}'" for name in REQUIRED)
            raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, f"the body needs one of {fields}")
        if item.body.get("stream"):
            raise invalid("'stream' is for requests that somebody listens to; leave it out")
        try:
            body = orjson.dumps({**item.body, "model": self._server.model})
        except TypeError as error:
            raise invalid(f"the body cannot be written as JSON: {error}") from error
        return Request(item.index, route, body)


class _Crowd:
    """The requests that are under way at one server; lives on the loop's thread."""

    def __init__(self, server: UpstreamServer, client: UpstreamClient) -> None:
        self.client = client
        self._limit = AdaptiveLimit(server.max_concurrency)
        self._rest_until_s = 0.0
        self._n_under_way = 0

    async def ask(self, batch: UpstreamBatch, *, timeout_s: float, should_stop: Callable[[], bool]) -> Answers:
        """Ask until every request has its outcome, the server refuses us, or ``should_stop()``."""
        answers: Answers = {}
        waiting = deque((position, 1) for position in batch.requests)
        under_way: dict[asyncio.Task[Verdict], tuple[int, int]] = {}
        try:
            while waiting or under_way:
                self._send(batch, waiting, under_way, timeout_s)
                for task in await _some_done(under_way):
                    position, n_tries = under_way.pop(task)
                    self._take(task.result(), position, n_tries, waiting, answers)
                if should_stop() or any(_stops_job(outcome) for outcome in answers.values()):
                    break
        finally:
            await _given_up(under_way)
        return answers

    def _send(
        self,
        batch: UpstreamBatch,
        waiting: deque[tuple[int, int]],
        under_way: dict[asyncio.Task[Verdict], tuple[int, int]],
        timeout_s: float,
    ) -> None:
        while (
            waiting and self._n_under_way < self._limit.now and asyncio.get_running_loop().time() >= self._rest_until_s
        ):
            position, n_tries = waiting.popleft()
            under_way[asyncio.create_task(self._one(batch.requests[position], timeout_s))] = (position, n_tries)
            self._n_under_way += 1

    async def _one(self, request: Request, timeout_s: float) -> Verdict:
        sent_in = self._limit.round
        try:
            reply = await self.client.post(request.route, request.body, timeout_s=timeout_s)
        finally:
            self._n_under_way -= 1
        verdict = judge(reply, request.index)
        if verdict.is_overload:
            self._limit.overloaded(sent_in)
        else:
            self._limit.answered()
        return verdict

    def _take(
        self, verdict: Verdict, position: int, n_tries: int, waiting: deque[tuple[int, int]], answers: Answers
    ) -> None:
        """Keep an outcome; or let everybody rest and ask again, where the server is only busy."""
        rest_s = retry_delay_s(attempt=n_tries, retry_after_s=verdict.retry_after_s)
        if not verdict.may_ask_again or n_tries >= MOST_TRIES or rest_s > LONGEST_REST_S:
            answers[position] = verdict.outcome
            return
        self._rest_until_s = max(self._rest_until_s, asyncio.get_running_loop().time() + rest_s)
        waiting.append((position, n_tries + 1))


async def _made(server: UpstreamServer, key: str | None) -> UpstreamClient:
    return UpstreamClient(server, key=key)


async def _some_done(under_way: Mapping[asyncio.Task[Verdict], object]) -> set[asyncio.Task[Verdict]]:
    if not under_way:
        await asyncio.sleep(LOOK_S)
        return set()
    done, _ = await asyncio.wait(under_way, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
    return done


async def _given_up(under_way: Mapping[asyncio.Task[Verdict], object]) -> None:
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)


def _stops_job(outcome: ItemOutcome) -> bool:
    return isinstance(outcome, ItemFailed) and outcome.stops_job


def _named(outcome: ItemOutcome, alias: str) -> ItemOutcome:
    if isinstance(outcome, ItemFailed):
        return outcome
    return replace(outcome, body=orjson.dumps({**orjson.loads(outcome.body), "model": alias}))


class _LoopThread:
    """An event loop in a thread of its own, for callers that are no coroutines."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine there and wait for what it returns."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError as error:
            raise Stopped from error

    def close(self) -> None:
        """End the thread; nothing may run there any more."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
