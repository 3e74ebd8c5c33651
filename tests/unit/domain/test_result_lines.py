"""Result lines: written in a job's dialect, read natively without loss."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ids import batch_request_id, new_id, read_batch_request_id
from app.domain.items import ItemErrorCode, ItemFailed, ItemSucceeded
from app.domain.jobs import Dialect
from app.domain.result_lines import (
    NEVER_RAN,
    LineContext,
    error_type,
    failed_line,
    never_ran_line,
    status_of,
    succeeded_line,
    to_native,
)

JOB_ID = new_id("job_")
NATIVE = LineContext(Dialect.NATIVE, JOB_ID, "fp32")
OPENAI = LineContext(Dialect.OPENAI, JOB_ID, "fp32")
ANTHROPIC = LineContext(Dialect.ANTHROPIC, JOB_ID, "fp32")
CUSTOM_IDS = st.text(min_size=1, max_size=40)
INDEXES = st.integers(0, 10**8)
ATTEMPTS = st.integers(1, 10)
BODIES = st.fixed_dictionaries(
    {
        "data": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4),
        "text": st.text(max_size=20),
        "usage": st.fixed_dictionaries({"prompt_tokens": st.integers(0, 10**6)}),
    }
)


def only_line(line: bytes) -> dict[str, Any]:
    """Parse a line after checking that it is exactly one."""
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    parsed = orjson.loads(line)
    assert isinstance(parsed, dict)
    return parsed


@given(CUSTOM_IDS, INDEXES, ATTEMPTS, BODIES)
def test_a_success_reads_the_same_whichever_dialect_stored_it(
    custom_id: str, index: int, attempts: int, body: dict[str, Any]
) -> None:
    outcome = ItemSucceeded(index, orjson.dumps(body), body["usage"]["prompt_tokens"], 0)
    native = only_line(succeeded_line(NATIVE, outcome, custom_id=custom_id, attempts=attempts))
    stored = succeeded_line(OPENAI, outcome, custom_id=custom_id, attempts=attempts)
    assert only_line(to_native(stored, outcome="succeeded", context=OPENAI)) == native
    assert native["response"]["body"] == body
    assert (native["custom_id"], native["index"], native["attempts"]) == (custom_id, index, attempts)


@given(CUSTOM_IDS, INDEXES, ATTEMPTS, st.sampled_from(ItemErrorCode), st.text(max_size=60))
def test_a_failure_reads_the_same_whichever_dialect_stored_it(
    custom_id: str, index: int, attempts: int, code: ItemErrorCode, message: str
) -> None:
    outcome = ItemFailed(index, code, message)
    native = only_line(failed_line(NATIVE, outcome, custom_id=custom_id, attempts=attempts))
    stored = failed_line(OPENAI, outcome, custom_id=custom_id, attempts=attempts)
    assert only_line(to_native(stored, outcome="failed", context=OPENAI)) == native
    shown = only_line(stored)
    assert shown["response"]["status_code"] == status_of(code) >= 400
    assert shown["response"]["body"]["error"]["code"] == native["error"]["code"] == code
    assert shown["error"] is None


@given(CUSTOM_IDS, INDEXES, st.integers(0, 10), st.sampled_from(sorted(NEVER_RAN)))
def test_an_item_that_never_ran_reads_the_same_whichever_dialect_stored_it(
    custom_id: str, index: int, attempts: int, outcome: str
) -> None:
    native = only_line(never_ran_line(NATIVE, index=index, custom_id=custom_id, outcome=outcome, attempts=attempts))
    stored = never_ran_line(OPENAI, index=index, custom_id=custom_id, outcome=outcome, attempts=attempts)
    assert only_line(to_native(stored, outcome=outcome, context=OPENAI)) == native
    assert native["status"] == outcome
    shown = only_line(stored)
    assert shown["response"] is None
    assert shown["error"]["code"] == NEVER_RAN[outcome][1]


def test_batches_of_both_vendors_dialects_store_the_same_lines() -> None:
    outcome = ItemSucceeded(0, b"{}", 1, 1)
    stored = [succeeded_line(context, outcome, custom_id="a", attempts=1) for context in (OPENAI, ANTHROPIC)]
    assert stored[0] == stored[1]
    assert len({to_native(line, outcome="succeeded", context=ANTHROPIC) for line in stored}) == 1


@given(INDEXES, st.integers(0, 255))
def test_index_and_attempts_travel_inside_the_request_id(index: int, attempts: int) -> None:
    ref = read_batch_request_id(batch_request_id(JOB_ID, index=index, attempts=attempts))
    assert (ref.index, ref.attempts) == (index, attempts)


@pytest.mark.parametrize(
    "text", ["", "batch_req_", "batch_req_" + "0" * 33, "batch_req_" + "0" * 34 + "\n", "req_" + "0" * 34]
)
def test_another_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        read_batch_request_id(text)


@pytest.mark.parametrize("code", list(ItemErrorCode))
def test_every_item_error_code_has_a_status_and_a_type(code: ItemErrorCode) -> None:
    assert 400 <= status_of(code) < 600
    assert error_type(code)


def test_a_code_that_nobody_knows_is_a_server_error() -> None:
    assert (status_of("made_up"), error_type("made_up")) == (500, "server_error")
