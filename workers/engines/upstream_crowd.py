"""The requests that are under way at one server: how many at once, who goes first, and what is asked again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from app.domain.items import ItemFailed, ItemOutcome
from app.domain.retries import retry_delay_s
from config.models import UpstreamServer
from workers.engines.adaptive_limit import AdaptiveLimit
from workers.engines.upstream_replies import Verdict, judge
from workers.engines.upstream_server import UpstreamClient

LOOK_S = 0.05

Answers = dict[int, ItemOutcome]
"""By position in the window."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How a server is asked."""

    most_tries: int
    """Of one attempt: a busy server is asked again so often before the item waits for its next attempt."""
    longest_rest_s: float
    """A server that asks for a longer pause is left alone: the item comes again with its next attempt."""
    goes_first: bool = False
    """Whether these requests pass those that do not, and what the server has shown to bear of them."""


PATIENT = Manners(most_tries=5, longest_rest_s=30.0)
"""Of items of a job."""
URGENT = Manners(most_tries=2, longest_rest_s=2.0, goes_first=True)
"""Of requests that somebody waits for, and would rather send again than wait much longer."""


@dataclass(frozen=True, slots=True)
class Request:
    """One item, as the server takes it."""

    index: int
    route: str
    body: bytes


@dataclass(slots=True, eq=False)
class _Asking:
    """Requests that are being asked for."""

    requests: Mapping[int, Request]
    timeout_s: float
    manners: Manners
    waiting: deque[tuple[int, int]]
    """Position and number of the try."""
    under_way: dict[asyncio.Task[Verdict], tuple[int, int]] = field(default_factory=dict)
    answers: Answers = field(default_factory=dict)


class Crowd:
    """The requests that are under way at one server; lives on the loop's thread."""

    def __init__(self, server: UpstreamServer, client: UpstreamClient) -> None:
        self.client = client
        self._most = server.max_concurrency
        self._limit = AdaptiveLimit(server.max_concurrency)
        self._rest_until_s = 0.0
        self._n_under_way = 0
        self._going_first: list[_Asking] = []

    async def ask(
        self, requests: Mapping[int, Request], *, timeout_s: float, manners: Manners, should_stop: Callable[[], bool]
    ) -> Answers:
        """Ask until every request has its outcome, the server refuses us, or ``should_stop()``."""
        asking = _Asking(requests, timeout_s, manners, deque((position, 1) for position in requests))
        if manners.goes_first:
            self._going_first.append(asking)
        try:
            while asking.waiting or asking.under_way:
                self._send(asking)
                for task in await _some_done(asking.under_way):
                    self._take(asking, task)
                if should_stop() or any(_stops_job(outcome) for outcome in asking.answers.values()):
                    break
        finally:
            if manners.goes_first:
                self._going_first.remove(asking)
            await _given_up(asking.under_way)
        return asking.answers

    def _send(self, asking: _Asking) -> None:
        while asking.waiting and self._may_send(asking.manners):
            position, n_tries = asking.waiting.popleft()
            task = asyncio.create_task(self._one(asking.requests[position], asking.timeout_s))
            asking.under_way[task] = (position, n_tries)
            self._n_under_way += 1

    def _may_send(self, manners: Manners) -> bool:
        if asyncio.get_running_loop().time() < self._rest_until_s:
            return False
        if manners.goes_first:
            return self._n_under_way < self._most
        return self._n_under_way < self._limit.now and not any(first.waiting for first in self._going_first)

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

    def _take(self, asking: _Asking, task: asyncio.Task[Verdict]) -> None:
        """Keep an outcome; or let everybody rest and ask again, where the server is only busy."""
        position, n_tries = asking.under_way.pop(task)
        verdict, manners = task.result(), asking.manners
        rest_s = retry_delay_s(attempt=n_tries, retry_after_s=verdict.retry_after_s)
        if not verdict.may_ask_again or n_tries >= manners.most_tries or rest_s > manners.longest_rest_s:
            asking.answers[position] = verdict.outcome
            return
        self._rest_until_s = max(self._rest_until_s, asyncio.get_running_loop().time() + rest_s)
        asking.waiting.append((position, n_tries + 1))


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
