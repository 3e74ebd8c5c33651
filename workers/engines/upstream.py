"""Chat, completions and embeddings by an OpenAI-compatible server beside the worker.

Many requests are under way at once, as many as the server bears: one more for each round of answers, half after it
was too busy. Nothing here holds the device, so synchronous requests and batches run side by side.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import orjson

from app.domain.items import InputItem, ItemErrorCode, ItemFailed, ItemOutcome
from config.models import UpstreamServer
from workers.engines.base import BadItem, Engine, Stopped, invalid
from workers.engines.upstream_crowd import PATIENT, URGENT, Answers, Crowd, Request
from workers.engines.upstream_server import UpstreamClient

REQUIRED = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/v1/embeddings": "input",
    "/v1/rerank": "query",
    "/v1/classify": "input",
}
"""The field that a body for a route cannot do without."""
Result = TypeVar("Result")


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


class UpstreamEngine(Engine[UpstreamWindow, UpstreamBatch, Answers]):
    """Asks another server; thread-safe."""

    uses_device = False
    takes_long = True
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
        self._endpoint = "/v1/chat/completions"
        self._manners = PATIENT
        self._loop = _LoopThread(f"upstream-{alias}")
        self._crowd = Crowd(server, self._loop.run(_made(server, key)))

    def within(self, item_timeout_s: float | None) -> UpstreamEngine:
        """See ``Engine.within``; connections and limit are shared."""
        if item_timeout_s is None:
            return self
        bound = copy.copy(self)
        bound.timeout_s = min(item_timeout_s, self._server.request_timeout_s)
        return bound

    def serving(self, endpoint: str) -> UpstreamEngine:
        """See ``Engine.serving``; connections and limit are shared."""
        bound = copy.copy(self)
        bound._endpoint = endpoint  # noqa: SLF001 - of its own class
        return bound

    def urgent(self) -> UpstreamEngine:
        """See ``Engine.urgent``; connections and limit are shared."""
        bound = copy.copy(self)
        bound._manners = URGENT  # noqa: SLF001 - of its own class
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
        asking = self._crowd.ask(
            batch.requests, timeout_s=self.timeout_s, manners=self._manners, should_stop=should_stop
        )
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
        required = REQUIRED[self._endpoint]
        if item.body.get(required) is None:
            message = f"'{required}' is missing: {self._endpoint} needs it"
            raise BadItem(ItemErrorCode.MISSING_REQUIRED_PARAMETER, message)
        if item.body.get("stream"):
            raise invalid("'stream' is for requests that somebody listens to; leave it out")
        try:
            body = orjson.dumps({**item.body, "model": self._server.model})
        except TypeError as error:
            raise invalid(f"the body cannot be written as JSON: {error}") from error
        return Request(item.index, self._endpoint.removeprefix("/v1"), body)


async def _made(server: UpstreamServer, key: str | None) -> UpstreamClient:
    return UpstreamClient(server, key=key)


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
