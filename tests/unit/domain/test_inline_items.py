"""Inline items become lines that pass the same check as a file."""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from app.domain.inline_items import content_id, inline_lines
from app.domain.input_lines import InputCheck
from app.domain.jobs import Dialect
from app.domain.jsonl import Line

TEXTS = st.text(max_size=10)
ITEMS = TEXTS | st.fixed_dictionaries({"body": st.dictionaries(TEXTS, TEXTS, max_size=2)})


def lines_of(*inputs: Any, model: str | None = "echo") -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in inline_lines(inputs, endpoint="/v1/echo", model=model)]


@given(st.lists(ITEMS, max_size=20))
def test_each_item_is_one_line_with_an_id_of_its_own(inputs: list[Any]) -> None:
    check = InputCheck(dialect=Dialect.NATIVE, endpoint="/v1/echo", max_items=100, max_line_bytes=10_000)
    lines = list(inline_lines(inputs, endpoint="/v1/echo", model="echo"))
    assert len(lines) == len(inputs)
    for number, line in enumerate(lines, start=1):
        assert line.count(b"\n") == 1
        assert check.check(Line(number, 0, line.removesuffix(b"\n"), len(line) - 1))


def test_a_string_becomes_the_input_of_a_body() -> None:
    assert lines_of("hello")[0]["body"] == {"input": "hello"}


def test_a_given_custom_id_is_kept() -> None:
    assert lines_of({"custom_id": "mine", "body": {"input": "x"}}) == [{"custom_id": "mine", "body": {"input": "x"}}]


def test_a_missing_custom_id_is_the_digest_of_what_is_asked_and_repeats_are_numbered() -> None:
    canonical = b'["/v1/echo","echo",{"input":"x"}]'
    digest = "sha256:" + hashlib.sha256(canonical).hexdigest()
    assert [line["custom_id"] for line in lines_of("x", "x", {"body": {"input": "x"}})] == [
        digest,
        f"{digest}#2",
        f"{digest}#3",
    ]


def test_the_id_does_not_depend_on_the_order_of_keys_but_on_endpoint_and_model() -> None:
    one = content_id(endpoint="/v1/echo", model="echo", body={"a": 1, "b": 2})
    assert one == content_id(endpoint="/v1/echo", model="echo", body={"b": 2, "a": 1})
    assert one != content_id(endpoint="/v1/echo", model="other", body={"a": 1, "b": 2})
    assert one != content_id(endpoint="/v1/embeddings", model="echo", body={"a": 1, "b": 2})
