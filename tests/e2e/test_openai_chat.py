"""Chat, rankings and classes through the unmodified openai SDK, which checks every answer against its own types."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

import openai
import pytest
from openai.types import Batch
from running_stack import RunningStack
from tiny_chat_model import ALIAS
from tiny_score_models import CLASSIFIER, LABELS, RERANKER

CHAT = "/v1/chat/completions"
PATIENCE_S = 60


@pytest.fixture(scope="module")
def client(running_stack: RunningStack) -> Iterator[openai.OpenAI]:
    running_stack.wait_until_ready()
    key = running_stack.new_key("openai-chat")
    with openai.OpenAI(
        base_url=f"{running_stack.url}/v1", api_key=key, _strict_response_validation=True, timeout=60
    ) as made:
        yield made


def _asking(text: str, **fields: Any) -> dict[str, Any]:
    return {"model": ALIAS, "messages": [{"role": "user", "content": text}], "temperature": 0, **fields}


def _run(client: openai.OpenAI, endpoint: Any, bodies: Sequence[dict[str, Any]]) -> Batch:
    lines = [
        {"custom_id": f"item-{number}", "method": "POST", "url": endpoint, "body": body}
        for number, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=("lines.jsonl", io.BytesIO(content)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")
    deadline = time.monotonic() + PATIENCE_S
    while batch.status not in {"completed", "failed", "expired", "cancelled"}:
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def _responses(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    """custom_id -> status and body of its line."""
    lines = [json.loads(line) for line in client.files.content(file_id or "").text.splitlines()]
    return {line["custom_id"]: line["response"] for line in lines}


def test_a_batch_of_chats_answers_each_and_tells_its_usage(client: openai.OpenAI) -> None:
    bodies = [_asking(f"question {number}", max_tokens=8) for number in range(10)]
    batch = _run(client, CHAT, [*bodies, _asking("too much", n=3)])
    assert (batch.status, batch.model) == ("completed", ALIAS)
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 11, "completed": 10, "failed": 1}
    answers = _responses(client, batch.output_file_id)
    completions = [openai.types.chat.ChatCompletion.model_validate(each["body"]) for each in answers.values()]
    assert all(each.choices[0].finish_reason == "length" for each in completions)
    assert batch.usage is not None
    assert batch.usage.output_tokens == sum(each.usage.completion_tokens for each in completions if each.usage) == 80
    (refused,) = _responses(client, batch.error_file_id).values()
    assert (refused["status_code"], refused["body"]["error"]["code"]) == (400, "invalid_request")


def test_a_chat_comes_back_while_the_client_waits_and_says_what_a_batch_says(client: openai.OpenAI) -> None:
    now = client.chat.completions.create(**_asking("hello", max_tokens=12))
    assert now.usage is not None
    assert now.usage.completion_tokens == 12
    batch = _run(client, CHAT, [_asking("hello", max_tokens=12)])
    (line,) = _responses(client, batch.output_file_id).values()
    assert line["body"]["choices"][0]["message"]["content"] == now.choices[0].message.content


def test_a_text_is_continued_while_the_client_waits(client: openai.OpenAI) -> None:
    continued = client.completions.create(model=ALIAS, prompt=["one", "two"], max_tokens=4, seed=1)
    assert [choice.index for choice in continued.choices] == [0, 1]
    assert continued.usage is not None
    assert continued.usage.completion_tokens <= 8


@pytest.mark.parametrize(
    ("fields", "error", "code", "param"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": RERANKER}, openai.BadRequestError, "invalid_value", "model"),
        ({"messages": [{"role": "user", "content": 5}]}, openai.BadRequestError, "invalid_value", "messages.0.content"),
        ({"n": 2}, openai.BadRequestError, "invalid_value", "n"),
        ({"max_tokens": 10_000}, openai.BadRequestError, "context_length_exceeded", "max_tokens"),
    ],
)
def test_a_wrong_chat_is_refused_in_the_words_of_the_sdk(
    client: openai.OpenAI, fields: dict[str, Any], error: type[openai.APIStatusError], code: str, param: str
) -> None:
    with pytest.raises(error) as refusal:
        client.chat.completions.create(**{**_asking("x", max_tokens=2), **fields})
    assert (refusal.value.code, refusal.value.param) == (code, param)


def test_a_stream_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refusal:
        client.chat.completions.create(**_asking("x"), stream=True)
    assert (refusal.value.code, refusal.value.param) == ("streaming_unsupported", "stream")


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        ("/v1/rerank", {"model": RERANKER, "query": "a river", "documents": ["The Tagus flows west.", "Onion soup."]}),
        ("/v1/classify", {"model": CLASSIFIER, "input": ["What a lovely evening.", "Go away!"]}),
    ],
)
def test_rankings_and_classes_come_at_once_and_in_batches(
    client: openai.OpenAI, endpoint: str, body: dict[str, Any]
) -> None:
    now: Any = client.post(endpoint.removeprefix("/v1"), body=body, cast_to=object)
    batch = _run(client, endpoint, [body] * 3)
    for response in _responses(client, batch.output_file_id).values():
        for name in ("model", "object", "usage"):
            assert response["body"][name] == now[name]
    assert batch.usage is not None
    assert batch.usage.input_tokens == 3 * now["usage"]["prompt_tokens"]
    if endpoint == "/v1/classify":
        assert {each["label"] for each in now["data"]} <= set(LABELS)
    else:
        assert sorted(each["index"] for each in now["results"]) == [0, 1]
