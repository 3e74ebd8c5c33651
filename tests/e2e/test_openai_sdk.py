"""The unmodified ``openai`` SDK against the whole stack, with strict checking of every response."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types import Batch
from running_stack import RunningStack

ENDED = {"completed", "failed", "expired", "cancelled"}
PATIENCE_S = 60


@pytest.fixture
def client(stack: RunningStack) -> Iterator[openai.OpenAI]:
    """The SDK, refusing any response that is not as its types say."""
    with openai.OpenAI(
        base_url=f"{stack.url}/v1", api_key=stack.api_key, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


def _line(custom_id: str, body: dict[str, Any], url: str = "/v1/echo") -> str:
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})


def _run(client: openai.OpenAI, content: str, endpoint: str = "/v1/echo", **options: Any) -> Batch:
    file = client.files.create(file=("in.jsonl", content.encode()), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,  # type: ignore[arg-type]
        completion_window="24h",
        **options,
    )
    return _wait(client, batch)


def _wait(client: openai.OpenAI, batch: Batch) -> Batch:
    deadline = time.monotonic() + PATIENCE_S
    while batch.status not in ENDED:
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    return batch


def _lines(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()] if file_id else []


def test_a_batch_of_embeddings_answers_every_item_once(client: openai.OpenAI) -> None:
    model = "all-MiniLM-L6-v2"
    ids = [f"text-{number}" for number in range(40)]
    content = "\n".join(_line(i, {"model": model, "input": f"the text {i}"}, "/v1/embeddings") for i in ids)
    batch = _run(client, content, "/v1/embeddings", metadata={"made": "here"})
    assert (batch.status, batch.model, batch.metadata) == ("completed", model, {"made": "here"})
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 40, "completed": 40, "failed": 0}
    assert batch.usage is not None
    assert batch.usage.input_tokens > 0
    assert batch.error_file_id is None
    lines = _lines(client, batch.output_file_id)
    assert sorted(line["custom_id"] for line in lines) == sorted(ids)
    for line in lines:
        assert line["response"]["status_code"] == 200
        assert len(line["response"]["body"]["data"][0]["embedding"]) == 384


def test_bad_items_go_to_the_error_file_and_the_batch_completes(client: openai.OpenAI) -> None:
    bad = {"model": "echo", "input": "x", "echo": {"fail": "invalid_request"}}
    content = "\n".join(_line(f"i{n}", bad if n % 4 == 0 else {"model": "echo", "input": f"{n}"}) for n in range(20))
    batch = _run(client, content)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 20, "completed": 15, "failed": 5}
    output, error = _lines(client, batch.output_file_id), _lines(client, batch.error_file_id)
    assert {line["custom_id"] for line in error} == {"i0", "i4", "i8", "i12", "i16"}
    assert len(output) == 15
    assert {line["custom_id"] for line in output + error} == {f"i{n}" for n in range(20)}
    assert all(line["response"]["status_code"] == 400 for line in error)
    assert error[0]["response"]["body"]["error"]["code"] == "invalid_request"


def test_a_batch_of_nothing_but_bad_items_completes_without_an_output_file(client: openai.OpenAI) -> None:
    bad = {"model": "echo", "input": "x", "echo": {"fail": "invalid_request"}}
    batch = _run(client, _line("only", bad))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert [line["custom_id"] for line in _lines(client, batch.error_file_id)] == ["only"]


@pytest.mark.parametrize(
    ("content", "code", "line"),
    [
        ("", "empty_file", None),
        (_line("a", {"model": "echo"}) + "\nnonsense", "invalid_json_line", 2),
        (_line("a", {"model": "echo"}) + "\n" + _line("a", {"model": "echo"}), "duplicate_custom_id", 2),
        (_line("a", {"model": "echo"}, "/v1/embeddings"), "invalid_url", 1),
    ],
)
def test_a_bad_file_fails_the_batch_with_its_lines(
    client: openai.OpenAI, content: str, code: str, line: int | None
) -> None:
    batch = _run(client, content)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None
    assert batch.errors.data
    assert (batch.errors.data[0].code, batch.errors.data[0].line) == (code, line)
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_native_fields_travel_in_extra_body(client: openai.OpenAI, stack: RunningStack) -> None:
    content = _line("a", {"model": "echo", "input": "x"})
    batch = _run(client, content, extra_body={"nightshift": {"priority": "urgent"}})
    with stack.client() as http:
        job = http.get(f"/v1/jobs/{batch.id}").json()
    assert (job["state"], job["priority"]) == ("succeeded", "urgent")


def test_files_are_listed_read_and_deleted(client: openai.OpenAI) -> None:
    file = client.files.create(
        file=("notes.jsonl", b"{}\n"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert file.expires_at == file.created_at + 3600
    assert client.files.retrieve(file.id) == file
    assert file.id in [found.id for found in client.files.list(purpose="batch", limit=10)]
    assert client.files.content(file.id).read() == b"{}\n"
    assert client.files.delete(file.id).deleted is True
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_lists_are_walked_page_by_page(client: openai.OpenAI) -> None:
    content = _line("a", {"model": "echo", "input": "x"})
    made = [_run(client, content).id for _ in range(3)]
    walked = []
    for batch in client.batches.list(limit=1):
        walked.append(batch.id)
        if len(walked) == 3:
            break
    assert walked == made[::-1]


def test_a_finished_batch_cannot_be_cancelled(client: openai.OpenAI) -> None:
    batch = _run(client, _line("a", {"model": "echo", "input": "x"}))
    with pytest.raises(openai.ConflictError) as refusal:
        client.batches.cancel(batch.id)
    assert refusal.value.response.headers["x-should-retry"] == "false"


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert {"all-MiniLM-L6-v2", "echo"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("echo").id == "echo"
    with pytest.raises(openai.NotFoundError) as refusal:
        client.models.retrieve("nope")
    assert refusal.value.code == "model_not_found"


def test_embeddings_come_back_while_the_client_waits(client: openai.OpenAI, stack: RunningStack) -> None:
    asked = {"model": "all-MiniLM-L6-v2", "input": ["a cat", "a feline", "the stock market"]}
    floats = client.embeddings.create(**asked, encoding_format="float")
    assert [vector.index for vector in floats.data] == [0, 1, 2]
    assert floats.usage.prompt_tokens > 0
    # The SDK asks for base64 unless told, and decodes it after its strict check would have refused it.
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=stack.api_key) as lenient:
        decoded = lenient.embeddings.create(**asked)
    assert decoded.data[1].embedding == pytest.approx(floats.data[1].embedding, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "error", "code", "param"),
    [
        ({"model": "nope", "input": "x"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "echo", "input": "x"}, openai.BadRequestError, "invalid_value", "model"),
        ({"model": "all-MiniLM-L6-v2", "input": ""}, openai.BadRequestError, None, None),
        ({"model": "all-MiniLM-L6-v2", "input": 7}, openai.BadRequestError, None, "input"),
    ],
)
def test_a_wrong_synchronous_request_is_refused(
    client: openai.OpenAI,
    asked: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str | None,
    param: str | None,
) -> None:
    with pytest.raises(error) as refusal:
        client.embeddings.create(**asked, encoding_format="float")
    if code:
        assert refusal.value.code == code
    if param:
        assert refusal.value.param == param


def test_a_wrong_key_is_told_apart(stack: RunningStack) -> None:
    stranger = openai.OpenAI(base_url=f"{stack.url}/v1", api_key="ns_wrong", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as refusal:
        stranger.models.list()
    assert refusal.value.code == "invalid_api_key"
