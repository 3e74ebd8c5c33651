"""Answers of chat engines as Messages, checked against the types that the vendor publishes."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage
from anthropic.types.messages import MessageBatchIndividualResponse
from hypothesis import given
from hypothesis import strategies as st

from app.domain.items import ItemErrorCode
from app.domain.message_results import message_line
from app.domain.messages import message_of, new_message_id
from app.domain.result_lines import NEVER_RAN

JOB_ID = "job_0199a0c27d4e0123456789abcdef0123"
FIELDS = st.sampled_from(
    ["choices", "message", "content", "tool_calls", "function", "arguments", "usage", "prompt_tokens", "finish_reason"]
)
ANYTHING = st.recursive(
    st.sampled_from([None, True, 5, -5, "", "text", "stop"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(FIELDS, inner, max_size=2),
    max_leaves=6,
)


def completion(**choice: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    return {"id": "chatcmpl-1", "model": "chat", "choices": [{"index": 0, **choice}], "usage": usage}


def message(**choice: Any) -> dict[str, Any]:
    made = message_of(completion(**choice), message_id=new_message_id(), service_tier="batch")
    Message.model_validate(made, strict=True)
    BetaMessage.model_validate(made, strict=True)
    return made


def test_text_its_usage_and_its_end_are_translated() -> None:
    made = message(message={"role": "assistant", "content": "Good evening"}, finish_reason="stop")
    assert made["content"] == [{"type": "text", "text": "Good evening", "citations": None}]
    assert (made["stop_reason"], made["stop_sequence"], made["model"]) == ("end_turn", None, "chat")
    assert made["usage"] == {
        "input_tokens": 5,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 2,
        "service_tier": "batch",
    }


@pytest.mark.parametrize(
    ("choice", "stop_reason", "stop_sequence"),
    [
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"finish_reason": "content_filter"}, "refusal", None),
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "stop", "stop_reason": 128009}, "end_turn", None),
        ({"finish_reason": None}, "end_turn", None),
        ({}, "end_turn", None),
    ],
)
def test_why_the_model_stopped_is_told(choice: dict[str, Any], stop_reason: str, stop_sequence: str | None) -> None:
    made = message(message={"content": "x"}, **choice)
    assert (made["stop_reason"], made["stop_sequence"]) == (stop_reason, stop_sequence)


def test_calls_of_tools_become_blocks_with_parsed_arguments() -> None:
    calls = [
        {"id": "t1", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}},
        {"function": {"name": "clock", "arguments": "not json"}},
    ]
    made = message(message={"content": None, "tool_calls": calls}, finish_reason="stop")
    assert made["stop_reason"] == "tool_use"
    assert made["content"][0] == {"type": "tool_use", "id": "t1", "name": "clock", "input": {"zone": "UTC"}}
    assert made["content"][1]["input"] == {"arguments": "not json"}


def test_what_a_model_thought_is_a_block_of_its_own() -> None:
    made = message(message={"content": "noon", "reasoning_content": "hm"}, finish_reason="stop")
    assert [block["type"] for block in made["content"]] == ["thinking", "text"]


@given(st.dictionaries(FIELDS, ANYTHING) | st.fixed_dictionaries({"choices": st.lists(ANYTHING, max_size=2)}))
def test_whatever_a_server_answers_a_message_is_made_of_it(answered: dict[str, Any]) -> None:
    made = message_of({**answered, "model": "chat"}, message_id=new_message_id(), service_tier="standard")
    Message.model_validate(made)


def shown(status: str, **fields: Any) -> dict[str, Any]:
    native = {"custom_id": "a", "index": 3, "status": status, "response": None, "error": None, "attempts": 1}
    return {**native, **fields}


def result_of(native: dict[str, Any]) -> Any:
    line = message_line(native, job_id=JOB_ID)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    MessageBatchIndividualResponse.model_validate_json(line, strict=True)
    parsed = orjson.loads(line)
    assert parsed["custom_id"] == "a"
    return parsed["result"]


def test_a_line_of_a_success_holds_its_message_under_an_id_of_the_item() -> None:
    body = completion(message={"content": "Good\nevening"}, finish_reason="stop")
    native = shown("succeeded", response={"status_code": 200, "body": body})
    result = result_of(native)
    assert result["type"] == "succeeded"
    assert result["message"]["id"] == result_of(native)["message"]["id"]
    assert result["message"]["id"] != result_of({**native, "index": 4})["message"]["id"]


@pytest.mark.parametrize(("status", "kind"), [("cancelled", "canceled"), ("expired", "expired")])
def test_a_line_of_what_never_ran_says_only_so(status: str, kind: str) -> None:
    assert status in NEVER_RAN
    assert result_of(shown(status, error={"code": "cancelled", "message": "x"})) == {"type": kind}


@pytest.mark.parametrize("code", list(ItemErrorCode))
def test_every_failure_of_an_item_has_a_type_that_the_vendor_knows(code: ItemErrorCode) -> None:
    result = result_of(shown("failed", error={"code": code, "message": "why"}))
    assert result["type"] == "errored"
    assert result["error"]["error"]["message"] == "why"
    expected = {
        ItemErrorCode.INVALID_REQUEST: "invalid_request_error",
        ItemErrorCode.MISSING_REQUIRED_PARAMETER: "invalid_request_error",
        ItemErrorCode.CONTEXT_LENGTH_EXCEEDED: "invalid_request_error",
        ItemErrorCode.MODEL_NOT_FOUND: "not_found_error",
        ItemErrorCode.RATE_LIMITED: "rate_limit_error",
        ItemErrorCode.UPSTREAM_UNAVAILABLE: "overloaded_error",
        ItemErrorCode.ITEM_TIMEOUT: "timeout_error",
        ItemErrorCode.WORKER_CRASH: "api_error",
    }
    assert result["error"]["error"]["type"] == expected.get(code, result["error"]["error"]["type"])
