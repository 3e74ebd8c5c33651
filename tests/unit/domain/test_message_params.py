"""What a client of the Messages API asks for, as the chat engines are asked for it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from app.domain.message_params import ApiVersion, chat_request
from app.errors import InvalidRequest, MissingParameter

FIRST, LATER = ApiVersion.FIRST, ApiVersion.WITHOUT_SAMPLING


def asked(version: ApiVersion = FIRST, **changes: Any) -> dict[str, Any]:
    params = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "Good evening"}], **changes}
    return chat_request(params, version=version)


def turns(*messages: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = asked(messages=list(messages), **changes)["messages"]
    return found


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def test_the_smallest_request_says_the_same_in_both_protocols() -> None:
    assert asked() == {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "Good evening"}]}


def test_every_option_has_its_counterpart() -> None:
    body = asked(
        system=[{"type": "text", "text": "Be short."}, {"type": "text", "text": "Be kind."}],
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        stop_sequences=["END"],
        metadata={"user_id": "u-1"},
        stream=False,
        thinking={"type": "adaptive"},
        output_config={"effort": "max", "format": {"type": "json_schema", "schema": {"type": "object"}}},
    )
    assert body["messages"][0] == {"role": "system", "content": "Be short.\nBe kind."}
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.5, 0.9, 40)
    assert (body["stop"], body["user"], body["reasoning_effort"]) == (["END"], "u-1", "high")
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert "stream" not in body


def test_what_only_steers_how_a_request_is_served_is_taken_and_changes_nothing() -> None:
    served = {"service_tier": "auto", "cache_control": {"type": "ephemeral"}, "inference_geo": "eu", "container": None}
    assert asked(**served) == asked()


def test_text_stays_text_and_an_image_becomes_a_part() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    linked = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    (only_text,) = turns(user([{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]))
    assert only_text["content"] == "one\ntwo"
    (mixed,) = turns(user([image, linked, {"type": "text", "text": "What is this?"}]))
    assert [part["type"] for part in mixed["content"]] == ["image_url", "image_url", "text"]
    assert mixed["content"][0]["image_url"]["url"] == "data:image/png;base64,AAAA"


def test_a_document_of_text_is_read_as_text() -> None:
    plain = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a letter"}}
    blocks = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "a page"}]}}
    assert turns(user([plain, blocks])) == [{"role": "user", "content": "a letter\na page"}]


def test_tools_their_calls_and_their_results_are_translated() -> None:
    tool = {"name": "clock", "description": "Tells the time", "input_schema": {"type": "object"}}
    call = {"type": "tool_use", "id": "t1", "name": "clock", "input": {"zone": "UTC"}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "noon"}]}
    failed = {"type": "tool_result", "tool_use_id": "t2", "content": "no such zone", "is_error": True}
    body = asked(
        messages=[
            user("What time is it?"),
            assistant(
                [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "Wait."}, call]
            ),
            user([{"type": "text", "text": "Here."}, result, failed]),
        ],
        tools=[tool],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    called = body["messages"][1]
    assert called["content"] == "Wait."
    assert orjson.loads(called["tool_calls"][0]["function"]["arguments"]) == {"zone": "UTC"}
    assert body["messages"][2] == {"role": "tool", "tool_call_id": "t1", "content": "noon"}
    assert body["messages"][3]["content"] == "Error: no such zone"
    assert body["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)


@pytest.mark.parametrize(
    ("choice", "translated"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "clock"}, {"type": "function", "function": {"name": "clock"}}),
    ],
)
def test_the_choice_of_a_tool_is_translated(choice: dict[str, Any], translated: Any) -> None:
    assert asked(tool_choice=choice)["tool_choice"] == translated


def test_turns_of_one_role_in_a_row_count_as_one() -> None:
    assert turns(user("a"), user("b"), assistant("c"), assistant("d"), user("e")) == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c\nd"},
        {"role": "user", "content": "e"},
    ]


def test_a_conversation_that_ends_with_the_assistant_is_to_be_continued_from_there() -> None:
    body = asked(messages=[user("Sun in Greek?"), assistant("The best answer is (")])
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in asked()


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_is_refused_under_the_later_version_only(name: str) -> None:
    assert asked(FIRST, **{name: 1})[name] == 1
    with pytest.raises(InvalidRequest) as refusal:
        asked(LATER, **{name: 1})
    assert refusal.value.param == name
    assert asked(LATER, **{name: None}) == asked()


@pytest.mark.parametrize("name", ["model", "max_tokens", "messages"])
def test_what_a_request_cannot_do_without_is_named(name: str) -> None:
    with pytest.raises(MissingParameter) as refusal:
        asked(**{name: None})
    assert refusal.value.param == name


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": 7}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0].role"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [user(None)]}, "messages[0].content"),
        ({"messages": [user(["x"])]}, "messages[0].content[0]"),
        ({"messages": [user([{"type": "text"}])]}, "messages[0].content[0].text"),
        ({"messages": [user([{"type": ["text"]}])]}, "messages[0].content[0].type"),
        ({"messages": [user([{"type": "image", "source": {"type": "file"}}])]}, "messages[0].content[0].source"),
        ({"messages": [user([{"type": "document", "source": {"type": "base64"}}])]}, "messages[0].content[0].source"),
        ({"messages": [assistant([{"type": "tool_use"}])]}, "messages[0].content[0]"),
        ({"messages": [user([{"type": "tool_result"}])]}, "messages[0].content[0].tool_use_id"),
        ({"system": 7}, "system"),
        ({"system": [{"type": "image"}]}, "system[0].type"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_p": "high"}, "top_p"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"metadata": "me"}, "metadata"),
        ({"stream": True}, "stream"),
        ({"container": "c-1"}, "container"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking.type"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format"),
        ({"output_config": {"effort": "some"}}, "output_config.effort"),
        ({"thinking": {"type": []}}, "thinking.type"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"name": "x", "type": {}, "input_schema": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"name": "clock"}]}, "tools[0].input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        asked(**changes)
    assert refusal.value.param == param
    assert param.partition("[")[0].partition(".")[0] in refusal.value.message


def test_params_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        chat_request([], version=FIRST)
    assert refusal.value.param == "params"
