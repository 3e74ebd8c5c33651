"""Inline items become JSONL, so that there is one path from submit on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson


def inline_lines(inputs: Sequence[Any], *, endpoint: str, model: str | None) -> Iterator[bytes]:
    """Give each item as a JSONL line, in order.

    Args:
        inputs: strings, which become ``{"input": string}``; ``{"custom_id", "body"}`` objects; or request bodies.
    """
    repeats: dict[str, int] = {}
    for given in inputs:
        custom_id, body = _id_and_body(given)
        if custom_id is None:
            custom_id = _numbered(content_id(endpoint=endpoint, model=model, body=body), repeats)
        yield orjson.dumps({"custom_id": custom_id, "body": body}) + b"\n"


def content_id(*, endpoint: str, model: str | None, body: Any) -> str:
    """The id of an item that names none: it follows from what is asked."""
    canonical = orjson.dumps([endpoint, model, body], option=orjson.OPT_SORT_KEYS)
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _id_and_body(given: Any) -> tuple[str | None, Any]:
    if isinstance(given, str):
        return None, {"input": given}
    if isinstance(given, dict) and "body" in given:
        return given.get("custom_id"), given["body"]
    return None, given


def _numbered(digest: str, repeats: dict[str, int]) -> str:
    number = repeats[digest] = repeats.get(digest, 0) + 1
    return digest if number == 1 else f"{digest}#{number}"
