"""The engine ``echo`` as a chat model says what was said last."""

from __future__ import annotations

from typing import Any

import pytest
from running import answer, failure, run

from app.domain.items import ItemErrorCode, ItemSucceeded
from workers.engines.echo import EchoEngine

ENGINE = EchoEngine().serving("/v1/chat/completions")


def chat(*contents: Any, **fields: Any) -> dict[str, Any]:
    return {"model": "echo", "messages": [{"role": "user", "content": each} for each in contents], **fields}


def test_what_was_said_last_comes_back_as_a_completion_with_its_usage() -> None:
    (outcome,) = run(ENGINE, [chat("first", [{"type": "text", "text": "the second"}])])
    said = answer(outcome)
    assert (said["object"], said["model"]) == ("chat.completion", "echo")
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "the second"}
    assert said["choices"][0]["finish_reason"] == "stop"
    assert said["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    assert isinstance(outcome, ItemSucceeded)
    assert (outcome.input_tokens, outcome.output_tokens) == (5, 3)


def test_an_answer_ends_at_the_most_tokens_that_were_asked_for() -> None:
    (outcome,) = run(ENGINE, [chat("12345678", max_tokens=1)])
    choice = answer(outcome)["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("1234", "length")


def test_controls_work_as_in_any_echo() -> None:
    (outcome,) = run(ENGINE, [chat("x", echo={"fail": "rate_limited"})])
    assert failure(outcome).code == ItemErrorCode.RATE_LIMITED


@pytest.mark.parametrize(
    "body",
    [
        {"model": "echo", "input": "x"},
        {"messages": []},
        {"messages": "x"},
        {"messages": ["x"]},
        chat(5),
        chat(5, "x"),
        chat("x", stream=True),
        chat("x", max_tokens=0),
        chat("x", max_tokens="many"),
    ],
)
def test_what_is_no_conversation_is_refused(body: dict[str, Any]) -> None:
    (outcome,) = run(ENGINE, [body])
    assert failure(outcome).code in {ItemErrorCode.INVALID_REQUEST, ItemErrorCode.MISSING_REQUIRED_PARAMETER}


def test_its_own_route_still_echoes() -> None:
    engine = EchoEngine()
    assert engine.serving("/v1/echo") is engine
