"""A batch of messages: what its client asks for, and what is shown of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.domain.input_lines import parse_object
from app.domain.jobs import JobDetails
from app.errors import InvalidJson, InvalidRequest, MissingParameter, RequestTooLarge, UnknownParameter

CHAT_ENDPOINT = "/v1/chat/completions"
"""What a message is to the engines, whichever dialect asked for it."""
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_FIELDS = {"custom_id", "params"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageBatch:
    """A job as the Anthropic dialect sees it."""

    details: JobDetails
    results_url: str | None
    """None until it has ended."""
    is_archived: bool
    """Whether its results are past their life."""


@dataclass(slots=True)
class MessageRequests:
    """Turns the requests of a batch into input lines, one after another.

    Whatever is wrong with a request's frame refuses the batch; its ``params`` are the business of its item. Memory:
    every ``custom_id``; their number is capped.
    """

    max_items: int
    max_line_bytes: int
    n_items: int = 0
    _first_seen: dict[str, int] = field(default_factory=dict)

    def line(self, text: bytes) -> bytes:
        """The input line of the next request, with its line end.

        Raises:
            InvalidRequest: ``param`` names what is wrong with it.
            RequestTooLarge: it is one too many, or too long.
        """
        where = f"requests[{self.n_items}]"
        if self.n_items >= self.max_items:
            raise RequestTooLarge(f"'requests' holds more than {self.max_items} requests, the most.", param="requests")
        request = _parsed(text, where)
        self._check_custom_id(request["custom_id"], where)
        self.n_items += 1
        line = orjson.dumps(request) + b"\n"
        if len(line) > self.max_line_bytes:
            message = f"'{where}' has {len(line)} bytes, {self.max_line_bytes} at most."
            raise RequestTooLarge(message, param=where)
        return line

    def _check_custom_id(self, custom_id: Any, where: str) -> None:
        param = f"{where}.custom_id"
        if not isinstance(custom_id, str) or _CUSTOM_ID.fullmatch(custom_id) is None:
            message = f"'{param}' must be 1 to 64 letters, digits, hyphens and underscores."
            raise InvalidRequest(message, param=param)
        first = self._first_seen.setdefault(custom_id, self.n_items)
        if first != self.n_items:
            message = f"'{param}' is {custom_id!r}, which requests[{first}] has already; each needs its own."
            raise InvalidRequest(message, param=param)


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    request, why = parse_object(text)
    if request is None:
        raise InvalidJson(f"'{where}': {why}".replace("The line", "it"), param=where)
    for name in sorted(_FIELDS):
        if name not in request:
            raise MissingParameter(f"'{where}.{name}' is required.", param=f"{where}.{name}")
    for name in request:
        if name not in _FIELDS:
            raise UnknownParameter(f"'{where}.{name[:80]}': there is no such field.", param=f"{where}.{name[:80]}")
    return request
