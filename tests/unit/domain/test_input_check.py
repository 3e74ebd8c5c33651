"""What refuses an input, line by line, and what never raises."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import time
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.input_lines import (
    MAX_DEPTH,
    MAX_REPORTED_PROBLEMS,
    InputCheck,
    ItemDefaults,
    LineProblem,
    parse_object,
    read_item,
)
from app.domain.items import InputItem, ItemFailed
from app.domain.jobs import Dialect
from app.domain.jsonl import Line, read_lines

MAX_LINE_BYTES = 4 * 1024 * 1024
DEEP = b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000
HOSTILE = [
    b"",
    b" \t",
    b"null",
    b"[]",
    b'"text"',
    b"{",
    b"{}",
    b"\x00",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"custom_id": "\\ud800", "body": {}}',
    b'{"custom_id": "\\u0000", "body": {}}',
    b'{"custom_id": "a\x00b", "body": {}}',
    b'{"custom_id": "\xc3\x28", "body": {}}',
    b'{"custom_id": 1e999, "body": {}}',
    b'{"custom_id": NaN, "body": {}}',
    b'{"custom_id": ' + b"9" * 100_000 + b', "body": {}}',
    b'{"custom_id": ["a"], "body": {}}',
    b'{"custom_id": {"a": {}}, "method": {"b": []}, "url": [1, null], "body": {"model": [[]], "stream": {}}}',
    b'{"custom_id": "' + b"x" * 100_000 + b'", "body": {}}',
    b'{"custom_id": "../../etc/passwd", "body": {"model": "\\u0000"}}',
    DEEP,
    b"[" * 2_000_000,
    b'{"custom_id": "q", "body": {"a": "' + b'\\"[{' * 300 + b'"}}',
]


def check_of(dialect: Dialect = Dialect.NATIVE, **values: Any) -> InputCheck:
    endpoint = values.pop("endpoint", "/v1/echo")
    limits = {"max_items": 1000, "max_line_bytes": MAX_LINE_BYTES, **values}
    return InputCheck(dialect=dialect, endpoint=endpoint, **limits)


def line_of(data: bytes | None, number: int = 1, size_bytes: int | None = None) -> Line:
    return Line(number, 0, data, len(data or b"") if size_bytes is None else size_bytes)


def problems_of(
    *lines: object, dialect: Dialect = Dialect.OPENAI, **values: Any
) -> list[tuple[int | None, str, str | None]]:
    check = check_of(dialect, **values)
    for number, line in enumerate(lines, start=1):
        check.check(line_of(line if isinstance(line, bytes) else orjson.dumps(line), number))
    check.finish()
    return [(problem.line, problem.code, problem.param) for problem in check.problems]


def openai_line(custom_id: object = "a", **changes: object) -> dict[str, object]:
    return {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/echo",
        "body": {"model": "echo", "input": "x"},
    } | changes


def is_storable(problem: LineProblem) -> bool:
    """Whether Postgres could keep it in jsonb."""
    return "\0" not in problem.message and len(orjson.dumps(problem.as_dict())) < 2_000


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from([Dialect.NATIVE, Dialect.OPENAI]))
def test_no_bytes_make_it_raise(lines: list[bytes], dialect: Dialect) -> None:
    check = check_of(dialect)
    for number, data in enumerate(lines, start=1):
        accepted = check.check(line_of(data, number))
        assert accepted is False or isinstance(orjson.loads(data), dict)
    assert all(is_storable(problem) for problem in check.problems)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENVELOPE = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("custom_id", "method", "url", "body"), JSON)
) | st.fixed_dictionaries(
    {"custom_id": JSON, "body": st.fixed_dictionaries({}, optional={"model": JSON, "stream": JSON})}
)


@given(ENVELOPE, st.sampled_from([Dialect.NATIVE, Dialect.OPENAI]))
@example({"custom_id": "\u0000", "body": {}}, Dialect.OPENAI)
def test_no_json_makes_it_raise_and_what_it_accepts_becomes_an_item_or_a_failure(
    line: dict[str, Any], dialect: Dialect
) -> None:
    data = orjson.dumps(line)
    check = check_of(dialect)
    accepted = check.check(line_of(data))
    assert accepted is (check.n_problems == 0)
    assert all(is_storable(problem) for problem in check.problems)
    if accepted:
        parsed, _ = parse_object(data)
        assert parsed is not None
        defaults = ItemDefaults(model="echo", parameters={}, endpoint="/v1/echo", known_models=frozenset({"echo"}))
        assert isinstance(read_item(parsed, index=0, attempt=1, defaults=defaults), InputItem | ItemFailed)


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:24]))
@pytest.mark.parametrize("dialect", [Dialect.NATIVE, Dialect.OPENAI])
def test_hostile_lines_are_judged_quickly_in_little_memory(data: bytes, dialect: Dialect) -> None:
    tracemalloc.start()
    started_s = time.monotonic()
    check = check_of(dialect)
    check.check(line_of(data))
    duration_s = time.monotonic() - started_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert duration_s < 5
    assert peak_bytes < 16 * len(data) + 1_000_000
    assert all(is_storable(problem) for problem in check.problems)


def test_a_good_line_passes_in_both_dialects() -> None:
    assert problems_of(openai_line()) == []
    assert problems_of({"custom_id": "a", "body": {"input": "x"}}, dialect=Dialect.NATIVE) == []


@pytest.mark.parametrize(
    ("line", "code", "param"),
    [
        (b"not json", "invalid_json_line", None),
        (b"[1, 2]", "invalid_json_line", None),
        (b"", "invalid_json_line", None),
        (openai_line(method="GET"), "invalid_method", "method"),
        (openai_line(method=None), "invalid_method", "method"),
        (openai_line(url="/v1/embeddings"), "invalid_url", "url"),
        (openai_line(custom_id=None), "missing_required_parameter", "custom_id"),
        (openai_line(custom_id=7), "invalid_value", "custom_id"),
        (openai_line(custom_id=""), "invalid_value", "custom_id"),
        (openai_line(custom_id="x" * 513), "invalid_value", "custom_id"),
        ({"custom_id": "a", "method": "POST", "url": "/v1/echo"}, "missing_required_parameter", "body"),
        (openai_line(body={"input": "x"}), "missing_required_parameter", "body.model"),
        (openai_line(body={"model": "echo", "stream": True}), "streaming_unsupported", "body.stream"),
    ],
)
def test_a_bad_line_is_named_with_its_number_code_and_param(line: object, code: str, param: str | None) -> None:
    assert problems_of(openai_line("first"), line) == [(2, code, param)]


def test_a_second_model_is_a_mismatch() -> None:
    other = openai_line("b", body={"model": "other", "input": "x"})
    assert problems_of(openai_line("a"), other) == [(2, "mismatched_model", "body.model")]


@pytest.mark.parametrize("distance", [1, 900])
def test_a_repeated_custom_id_is_found_near_and_far(distance: int) -> None:
    lines = [openai_line(f"id-{number}") for number in range(distance)]
    found = problems_of(*lines, openai_line("id-0"))
    assert found == [(distance + 1, "duplicate_custom_id", "custom_id")]


def test_custom_ids_that_only_look_alike_are_different() -> None:
    assert problems_of(openai_line("a"), openai_line("а"), openai_line("A"), openai_line("a ")) == []  # noqa: RUF001


def test_a_line_that_is_too_long_is_named_and_the_others_are_read() -> None:
    check = check_of(Dialect.OPENAI, max_line_bytes=10_000)
    assert not check.check(line_of(None, 1, size_bytes=99_999))
    assert check.check(line_of(orjson.dumps(openai_line()), 2))
    assert [(problem.line, problem.code) for problem in check.problems] == [(1, "line_too_long")]


def test_too_many_lines_are_one_problem_of_the_whole() -> None:
    lines = [openai_line(f"id-{number}") for number in range(5)]
    assert problems_of(*lines, max_items=3) == [(None, "too_many_requests_in_file", None)]
    assert problems_of(*lines, max_items=5) == []


NOT_JSONL = {
    "gzip": gzip.compress(b'{"custom_id": "a", "body": {}}\n' * 1000),
    "bzip2": bz2.compress(b"{}\n" * 1000),
    "xz": lzma.compress(b"{}\n" * 1000),
    "zstd": b"\x28\xb5\x2f\xfd\x04\x00\n\x00\n",
    "zip": b"PK\x03\x04\x14\x00\n\x00\n",
    "Parquet": b"PAR1\x15\x04\n\x15\n",
    "UTF-16": '{"custom_id": "a"}\n{"custom_id": "b"}\n'.encode("utf-16"),
}


@pytest.mark.parametrize("kind", NOT_JSONL)
def test_a_file_that_is_something_else_is_named_in_one_problem(kind: str) -> None:
    check = check_of(Dialect.OPENAI)
    for line in read_lines(io.BytesIO(NOT_JSONL[kind]), max_line_bytes=MAX_LINE_BYTES):
        assert not check.check(line)
        if check.is_hopeless:
            break
    check.finish()
    (problem,) = check.problems
    assert (problem.line, problem.code) == (1, "invalid_json_line")
    assert kind in problem.message


def test_a_line_that_only_looks_compressed_behind_the_first_is_one_bad_line() -> None:
    assert problems_of(openai_line("a"), b"BZh9", openai_line("b")) == [(2, "invalid_json_line", None)]


@pytest.mark.parametrize(
    ("number", "read"),
    [
        (b"1" * 18, int("1" * 18)),
        (b"18446744073709551615", 2**64 - 1),
        (b"18446744073709551616", float(2**64)),
        (b"9" * 300, float("9" * 300)),
        (b"0." + b"3" * 100_000, 1 / 3),
    ],
)
def test_a_number_beyond_64_bits_is_read_as_the_nearest_float(number: bytes, read: float) -> None:
    parsed, _ = parse_object(b'{"custom_id": "a", "body": {"n": ' + number + b"}}")
    assert parsed is not None
    assert parsed["body"]["n"] == read


@pytest.mark.parametrize("number", [b"9" * 400, b"9" * 100_000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"-Infinity"])
def test_a_number_that_no_float_holds_is_no_json(number: bytes) -> None:
    assert problems_of(b'{"custom_id": "a", "body": {"n": ' + number + b"}}", dialect=Dialect.NATIVE) == [
        (1, "invalid_json_line", None)
    ]


def test_of_a_name_that_stands_twice_the_last_counts() -> None:
    twice = b'{"custom_id": "a", "custom_id": "b", "body": {}, "body": {"input": 1, "input": 2}}'
    parsed, _ = parse_object(twice)
    assert parsed == {"custom_id": "b", "body": {"input": 2}}
    other = b'{"custom_id": "x", "custom_id": "b", "body": {}}'
    assert problems_of(twice, other, dialect=Dialect.NATIVE) == [(2, "duplicate_custom_id", "custom_id")]


def test_an_input_without_lines_is_refused() -> None:
    assert problems_of() == [(None, "empty_file", None)]


def test_only_the_first_problems_are_kept_and_all_are_counted() -> None:
    check = check_of(max_items=1000)
    for number in range(1, 501):
        check.check(line_of(b"?", number))
    assert (len(check.problems), check.n_problems) == (MAX_REPORTED_PROBLEMS, 500)


@pytest.mark.parametrize(("depth", "accepted"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (5_000, False)])
def test_nesting_has_a_limit_that_brackets_inside_strings_do_not_count_towards(depth: int, *, accepted: bool) -> None:
    deep = b'{"custom_id":"a","body":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
    parsed, why = parse_object(deep)
    assert (parsed is not None) is accepted
    assert accepted or "deep" in why or "depth" in why
    harmless, _ = parse_object(b'{"text": "' + b'\\"[[{{\\\\' * 1000 + b'"}')
    assert harmless is not None


DEFAULTS = ItemDefaults(
    model="echo", parameters={"dimensions": 8}, endpoint="/v1/echo", known_models=frozenset({"echo", "other"})
)


def test_an_item_is_merged_over_its_jobs_parameters() -> None:
    parsed = {"custom_id": "a", "body": {"input": "x", "dimensions": 4}}
    item = read_item(parsed, index=3, attempt=2, defaults=DEFAULTS)
    assert item == InputItem(3, "a", {"dimensions": 4, "input": "x", "model": "echo"}, 2)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "invalid_request"),
        ([], "invalid_request"),
        ("text", "invalid_request"),
        ({"model": "nobody"}, "model_not_found"),
        ({"model": 5}, "model_not_found"),
        ({"model": "other"}, "invalid_request"),
    ],
)
def test_a_wrong_body_is_one_failed_item(body: object, code: str) -> None:
    failed = read_item({"custom_id": "a", "body": body}, index=0, attempt=1, defaults=DEFAULTS)
    assert isinstance(failed, ItemFailed)
    assert failed.code == code


MESSAGE = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}


def message_item(params: object, *, model: str | None = "chat", version: str = "2023-06-01") -> InputItem | ItemFailed:
    defaults = ItemDefaults(
        model=model,
        parameters={},
        endpoint="/v1/chat/completions",
        known_models=frozenset({"chat", "echo"}),
        dialect=Dialect.ANTHROPIC,
        api_version=version,
    )
    return read_item({"custom_id": "a", "params": params}, index=0, attempt=1, defaults=defaults)


def test_a_line_of_a_message_batch_has_params_and_reaches_the_engine_as_a_chat_request() -> None:
    check = check_of(Dialect.ANTHROPIC, usable_models=frozenset({"chat"}))
    assert check.check(line_of(orjson.dumps({"custom_id": "a", "params": {**MESSAGE, "model": "typo"}}), 1))
    assert check.check(line_of(orjson.dumps({"custom_id": "b", "params": MESSAGE}), 2))
    assert check.model == "chat"
    item = message_item({**MESSAGE, "stop_sequences": ["END"]})
    assert isinstance(item, InputItem)
    assert item.body["stop"] == ["END"]


@pytest.mark.parametrize(
    ("params", "version", "code"),
    [
        ("text", "2023-06-01", "invalid_request"),
        ({**MESSAGE, "model": None}, "2023-06-01", "missing_required_parameter"),
        ({**MESSAGE, "max_tokens": None}, "2023-06-01", "missing_required_parameter"),
        ({**MESSAGE, "max_tokens": -1, "model": "nobody"}, "2023-06-01", "invalid_request"),
        ({**MESSAGE, "model": "nobody"}, "2023-06-01", "model_not_found"),
        ({**MESSAGE, "model": "echo"}, "2023-06-01", "invalid_request"),
        ({**MESSAGE, "temperature": 1}, "2026-10-21", "invalid_request"),
    ],
)
@pytest.mark.parametrize("model", ["chat", None])
def test_wrong_params_are_one_failed_item(params: object, version: str, code: str, model: str | None) -> None:
    failed = message_item(params, model=model, version=version)
    assert isinstance(failed, ItemFailed)
    assert failed.code == code


def test_natively_a_model_that_nobody_serves_is_not_taken_for_the_job() -> None:
    """A wrong body is one failed item: its neighbours, which name a real model, must run."""
    check = check_of(Dialect.NATIVE, usable_models=frozenset({"echo"}))
    for number, model in enumerate(["typo", "echo"], start=1):
        assert check.check(line_of(orjson.dumps({"custom_id": model, "body": {"model": model}}), number))
    assert check.model == "echo"
