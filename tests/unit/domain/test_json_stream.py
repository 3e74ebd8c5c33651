"""A JSON object is read the same whole or in pieces, as a parser reads it, and never holds more than one value."""

from __future__ import annotations

import io
import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.json_stream import BLOCK_BYTES, JsonStream
from app.errors import InvalidJson, RequestTooLarge

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MOST = 1000


class Pieces:
    """Gives a text in pieces of the lengths that a test chose, over and over."""

    def __init__(self, text: bytes, lengths: list[int]) -> None:
        self._text = io.BytesIO(text)
        self._lengths = lengths
        self._turn = 0

    def read(self, size: int, /) -> bytes:
        self._turn += 1
        return self._text.read(min(size, self._lengths[self._turn % len(self._lengths)]))


def read(source: Any, *, most: int = 1 << 20) -> dict[str, Any]:
    """Everything of an object, its lists element by element."""
    stream = JsonStream(source, max_value_bytes=most)
    found: dict[str, Any] = {}
    for name in stream.members():
        elements = stream.elements()
        found[name] = orjson.loads(stream.value()) if elements is None else [orjson.loads(each) for each in elements]
    return found


@given(
    st.dictionaries(st.text(), JSON, max_size=4), st.lists(st.integers(1, 7), min_size=1), st.sampled_from([None, 2])
)
@example({"requests": [{"a": '"\\'}, "]}", [], {}]}, [1], None)
@example({}, [1], 2)
def test_any_object_is_read_as_a_parser_reads_it(
    document: dict[str, Any], lengths: list[int], indent: int | None
) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=indent is None).encode("utf-8", "surrogatepass")
    try:
        expected = orjson.loads(text)
    except orjson.JSONDecodeError:
        return  # a lone surrogate: whoever parses the value refuses it
    assert read(Pieces(text, lengths)) == expected


@given(st.binary(max_size=30) | st.text(alphabet='{}[]":,\\ a1', max_size=30).map(str.encode), st.integers(1, 5))
@example(b'{"a": 1}}', 1)
@example(b'{"a": [1,]}', 2)
@example(b'{"a" 1}', 2)
@example(b"[]", 1)
@example(b"", 1)
def test_what_is_no_object_for_a_parser_is_none_here(text: bytes, length: int) -> None:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError:
        parsed = None
    if isinstance(parsed, dict):
        assert read(Pieces(text, [length])) == parsed
        return
    with pytest.raises((InvalidJson, orjson.JSONDecodeError)):
        read(Pieces(text, [length]))


@pytest.mark.parametrize("value", ['"' + "x" * MOST + '"', "[" + "1," * MOST + "1]", "1" * (MOST + 1), '{"a":' * MOST])
def test_a_value_that_is_too_long_is_refused_before_all_of_it_is_read(value: str) -> None:
    source = Pieces(b'{"list": [' + value.encode() + b" " * 10_000_000, [MOST])
    with pytest.raises(RequestTooLarge):
        read(source, most=MOST)
    assert source._turn < 10


def test_memory_holds_a_value_and_a_block_however_long_the_list_is() -> None:
    element = b'{"text": "' + b"\\n" * 500_000 + b'"}'
    document = b'{"list": [' + b",".join([element] * 40) + b"]}"
    source = io.BytesIO(document)
    stream = JsonStream(source, max_value_bytes=len(element))
    tracemalloc.start()
    for _ in stream.members():
        assert sum(1 for _ in stream.elements() or ()) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * BLOCK_BYTES
