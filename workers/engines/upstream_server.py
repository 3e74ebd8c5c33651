"""One OpenAI-compatible server, seen by an engine: one request, one reply, nothing raised for what the server does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from config.models import UpstreamServer

CONNECT_TIMEOUT_S = 5.0
MAX_REPLY_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back; ``status`` 0 where nothing did."""

    status: int
    body: dict[str, Any] | None = None
    """The reply's JSON object; None where it held something else."""
    retry_after_s: float | None = None
    problem: str = ""
    """Why there is no usable reply; empty where there is one."""
    timed_out: bool = False
    too_large: bool = False


class UpstreamClient:
    """Requests to one server over kept connections; belongs to one event loop."""

    def __init__(self, server: UpstreamServer, *, key: str | None) -> None:
        """Connect to nothing yet.

        Args:
            key: sent as a bearer token; it is in no message and no log.
        """
        self._url = server.base_url
        headers = {"content-type": "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        self._client = httpx.AsyncClient(
            headers=headers,
            timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=server.max_concurrency, max_keepalive_connections=None),
            follow_redirects=False,
            trust_env=False,
        )

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.aclose()

    async def post(self, route: str, body: bytes, *, timeout_s: float) -> Reply:
        """Send a body to a route such as ``/chat/completions`` and read the whole reply."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream("POST", self._url + route, content=body) as response,
            ):
                content = await _bounded(response)
        except TimeoutError:
            return Reply(0, problem=f"no answer within {timeout_s:g} s", timed_out=True)
        except httpx.HTTPError as error:
            return Reply(0, problem=f"the connection failed: {type(error).__name__}")
        if content is None:
            problem = f"the reply is larger than {MAX_REPLY_BYTES} bytes"
            return Reply(response.status_code, problem=problem, too_large=True)
        return _reply(response, content)


async def _bounded(response: httpx.Response) -> bytes | None:
    """The reply's content; None where it is larger than anything useful."""
    blocks, size = [], 0
    async for block in response.aiter_bytes():
        size += len(block)
        if size > MAX_REPLY_BYTES:
            return None
        blocks.append(block)
    return b"".join(blocks)


def _reply(response: httpx.Response, content: bytes) -> Reply:
    retry_after_s = _retry_after_s(response.headers)
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict):
        return Reply(response.status_code, body, retry_after_s)
    return Reply(response.status_code, None, retry_after_s, problem="the reply is no JSON object")


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """Seconds of a ``Retry-After``; a date counts from the server's own clock, which its ``Date`` tells."""
    value = headers.get("retry-after", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - parsedate_to_datetime(headers["date"])).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None
