"""The unmodified ``anthropic`` SDK against the whole stack: messages at once, and batches beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import anthropic
import httpx
import pytest
from anthropic.types import Message
from running_stack import RunningStack

PATIENCE_S = 60


@pytest.fixture
def client(stack: RunningStack) -> Iterator[anthropic.Anthropic]:
    """The SDK as it comes, but that it says at once what is wrong."""
    with anthropic.Anthropic(base_url=stack.url, api_key=stack.api_key, max_retries=0) as made:
        yield made


def test_a_message_is_answered_while_the_client_waits(client: anthropic.Anthropic) -> None:
    raw = client.messages.with_raw_response.create(
        model="echo", max_tokens=2, system="Be short.", messages=[{"role": "user", "content": "a longer text"}]
    )
    message = Message.model_validate_json(raw.text(), strict=True)
    assert [block.text for block in message.content if block.type == "text"] == ["a longer"]
    assert (message.stop_reason, message.usage.output_tokens, message.usage.service_tier) == (
        "max_tokens",
        2,
        "standard",
    )
    assert raw.headers["request-id"].startswith("req_")
    assert "x-ratelimit-remaining-requests" in raw.headers


@pytest.mark.parametrize(
    ("changes", "error", "kind"),
    [
        ({"model": "nobody"}, anthropic.NotFoundError, "not_found_error"),
        ({"model": "all-MiniLM-L6-v2"}, anthropic.BadRequestError, "invalid_request_error"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
        ({"messages": []}, anthropic.BadRequestError, "invalid_request_error"),
        ({"stream": True}, anthropic.BadRequestError, "invalid_request_error"),
        ({"temperature": 0.5}, anthropic.BadRequestError, "invalid_request_error"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_the_vendors_words(
    stack: RunningStack, client: anthropic.Anthropic, changes: dict[str, object], error: type[Exception], kind: str
) -> None:
    asked = {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}], **changes}
    headers = {"x-api-key": stack.api_key, "anthropic-version": "2026-10-21"}
    refused = httpx.post(f"{stack.url}/v1/messages", json=asked, headers=headers)
    assert refused.json()["error"]["type"] == kind
    with pytest.raises(error):
        client.post("/v1/messages", body=asked, cast_to=Message)


def test_a_batch_ends_by_itself_with_all_its_messages(client: anthropic.Anthropic) -> None:
    texts = {f"id-{n}": f"text {n}" for n in range(50)}
    batch = client.messages.batches.create(
        requests=[
            {
                "custom_id": name,
                "params": {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": text}]},
            }
            for name, text in texts.items()
        ]
    )
    deadline = time.monotonic() + PATIENCE_S
    while batch.processing_status != "ended":
        assert time.monotonic() < deadline, batch
        assert sum(batch.request_counts.to_dict().values()) == len(texts)  # type: ignore[arg-type]
        time.sleep(0.1)
        batch = client.messages.batches.retrieve(batch.id)
    found = {line.custom_id: line.result.message.content[0].text for line in client.messages.batches.results(batch.id)}  # type: ignore[union-attr]
    assert found == texts
