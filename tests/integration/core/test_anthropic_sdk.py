"""The unmodified ``anthropic`` SDK: batches of messages from their creation to their results, in every dialect."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic.types.messages import MessageBatch, MessageBatchIndividualResponse
from chat_core import ServedCore, chatting, served
from core_machine import CoreMachine, HeldUp
from scripted_upstream import Request, Said, completion, error, scripted_upstream

from app.domain.states import JobState
from app.services.sweep_expired import sweep_expired

TEXTS = [f"text {n}" for n in range(10)]


def answer(request: Request) -> Said:
    """Repeat what was said; be busy, or refuse, where that is asked for."""
    said = request["messages"][-1]["content"]
    if said == "refuse":
        return error(400, "I will not answer that")
    answered = completion(request)
    if "stop" in request:
        answered.body["choices"][0]["stop_reason"] = request["stop"][0]
    return answered


@pytest.fixture
def api(core: CoreMachine, free_tcp_port: int) -> Iterator[ServedCore]:
    """The API, over a core that the test turns."""
    with (
        scripted_upstream(answer) as upstream,
        chatting(core, upstream) as chatty,
        served(chatty, free_tcp_port) as api,
    ):
        yield api


@pytest.fixture
def client(api: ServedCore) -> Iterator[anthropic.Anthropic]:
    """The SDK as it comes."""
    with anthropic.Anthropic(base_url=api.url, api_key=api.key, auth_token=None) as made:
        yield made


def requested(custom_id: str, text: str = "hello", **params: Any) -> dict[str, Any]:
    message = {"role": "user", "content": text}
    return {"custom_id": custom_id, "params": {"model": "chat", "max_tokens": 20, "messages": [message], **params}}


def create(client: Any, *requests: dict[str, Any], **options: Any) -> MessageBatch:
    made: MessageBatch = client.messages.batches.create(requests=list(requests), **options)
    return made


def job_id_of(batch: MessageBatch) -> str:
    return batch.id.replace("msgbatch_", "job_")


def results(client: Any, batch: MessageBatch) -> dict[str, MessageBatchIndividualResponse]:
    lines = list(client.messages.batches.results(batch.id))
    found = {line.custom_id: line for line in lines}
    assert len(found) == len(lines), "an item has two results"
    return found


def test_a_batch_runs_to_its_end_and_every_request_has_its_message(
    api: ServedCore, client: anthropic.Anthropic
) -> None:
    batch = create(client, *(requested(f"id-{n}", text) for n, text in enumerate(TEXTS)))
    assert (batch.processing_status, batch.results_url, batch.ended_at) == ("in_progress", None, None)
    assert batch.request_counts.processing == len(TEXTS)
    assert (batch.expires_at - batch.created_at).total_seconds() == 86_400
    assert batch._request_id
    api.core.drive(job_id_of(batch))
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert ended.ended_at is not None
    assert ended.results_url == f"{api.url}/v1/messages/batches/{batch.id}/results"
    assert ended.request_counts.to_dict() == {
        "processing": 0,
        "succeeded": len(TEXTS),
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }
    found = results(client, ended)
    for n, text in enumerate(TEXTS):
        result = found[f"id-{n}"].result
        assert result.type == "succeeded"
        assert [block.text for block in result.message.content if block.type == "text"] == [text]
        assert (result.message.model, result.message.stop_reason) == ("chat", "end_turn")
        assert (result.message.usage.output_tokens, result.message.usage.service_tier) == (2, "batch")


def test_the_raw_answers_are_as_the_vendor_types_them(api: ServedCore, client: anthropic.Anthropic) -> None:
    raw = client.messages.batches.with_raw_response
    made = raw.create(requests=[requested("good"), requested("bad", max_tokens=-1)])  # type: ignore[list-item]
    batch = MessageBatch.model_validate_json(made.text(), strict=True)
    assert made.headers["request-id"].startswith("req_")
    api.core.drive(job_id_of(batch))
    MessageBatch.model_validate_json(raw.retrieve(batch.id).text(), strict=True)
    sent = httpx.get(
        f"{api.url}/v1/messages/batches/{batch.id}/results",
        headers={"x-api-key": api.key, "anthropic-version": "2023-06-01"},
    )
    assert sent.headers["content-type"] == "application/x-jsonl"
    lines = sent.content.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == 2
    for line in lines:
        assert b"\r" not in line
        MessageBatchIndividualResponse.model_validate_json(line, strict=True)


def test_each_of_the_four_kinds_of_results_is_told(api: ServedCore, client: anthropic.Anthropic) -> None:
    items = [requested(f"good-{n}") for n in range(3)]
    batch = create(client, requested("refused", "refuse"), *items, *(requested(f"late-{n}") for n in range(8)))
    job_id = job_id_of(batch)
    api.core.prepare(job_id)
    first, *_ = api.core.granted(job_id)
    api.core.run(first)
    api.core.finish(job_id)
    moved = client.messages.batches.retrieve(batch.id).request_counts
    assert (moved.processing, moved.succeeded, moved.errored) == (8, 3, 1)
    api.core.window_closes(job_id)
    api.core.drive(job_id)
    ended = client.messages.batches.retrieve(batch.id)
    assert (ended.request_counts.processing, ended.request_counts.expired) == (0, 8)
    found = results(client, ended)
    refused = found["refused"].result
    assert refused.type == "errored"
    assert (refused.error.error.type, refused.error.type) == ("invalid_request_error", "error")
    assert "I will not answer that" in refused.error.error.message
    assert {found[f"late-{n}"].result.type for n in range(8)} == {"expired"}
    assert {found[f"good-{n}"].result.type for n in range(3)} == {"succeeded"}


def test_a_cancelled_batch_keeps_what_had_finished(api: ServedCore, client: anthropic.Anthropic) -> None:
    batch = create(client, *(requested(f"id-{n}") for n in range(10)))
    job_id = job_id_of(batch)
    api.core.prepare(job_id)
    first, *_ = api.core.granted(job_id)
    shown: list[MessageBatch] = []

    def cancel() -> None:
        shown.append(client.messages.batches.cancel(batch.id))
        shown.append(client.messages.batches.cancel(batch.id))

    api.core.run(first, runner=HeldUp(api.core.runner, after=2, act=cancel))
    assert [each.processing_status for each in shown] == ["canceling", "canceling"]
    assert shown[0].cancel_initiated_at is not None
    assert sum(shown[0].request_counts.to_dict().values()) == 10  # type: ignore[arg-type]
    api.core.drive(job_id)
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.canceled) == (2, 8)
    assert sorted(line.result.type for line in results(client, ended).values()) == ["canceled"] * 8 + ["succeeded"] * 2


@pytest.mark.parametrize(("version", "kind"), [("2023-06-01", "succeeded"), ("2026-10-21", "errored")])
@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_sampling_is_the_models_business_under_the_later_version(
    api: ServedCore, client: anthropic.Anthropic, version: str, kind: str, name: str
) -> None:
    versioned = client.with_options(default_headers={"anthropic-version": version})
    batch = create(versioned, requested("sampled", **{name: 1}), requested("plain"))
    api.core.drive(job_id_of(batch))
    found = results(client, batch)
    assert (found["sampled"].result.type, found["plain"].result.type) == (kind, "succeeded")


def test_every_kind_of_wrong_params_costs_its_item_alone(api: ServedCore, client: anthropic.Anthropic) -> None:
    wrong: dict[str, Any] = {
        "no-params": {},
        "text": "hello",
        "no-tokens": {"model": "chat", "messages": [{"role": "user", "content": "x"}]},
        "stream": requested("x", stream=True)["params"],
        "no-model": requested("x", model="nobody")["params"],
    }
    batch = create(client, *({"custom_id": name, "params": params} for name, params in wrong.items()), requested("ok"))
    job = api.core.drive(job_id_of(batch))
    assert job.state is JobState.PARTIALLY_SUCCEEDED
    found = results(client, batch)
    kinds = {name: each.result.error.error.type for name, each in found.items() if each.result.type == "errored"}
    assert kinds == {**dict.fromkeys(wrong, "invalid_request_error"), "no-model": "not_found_error"}
    assert found["ok"].result.type == "succeeded"


def test_stop_sequences_are_told_as_the_server_told_them(api: ServedCore, client: anthropic.Anthropic) -> None:
    batch = create(client, requested("a", stop_sequences=["END"]))
    api.core.drive(job_id_of(batch))
    result = results(client, batch)["a"].result
    assert result.type == "succeeded"
    assert (result.message.stop_reason, result.message.stop_sequence) == ("stop_sequence", "END")


def test_results_are_refused_before_the_end_and_a_running_batch_is_not_deleted(
    api: ServedCore, client: anthropic.Anthropic
) -> None:
    batch = create(client, requested("a"))
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        client.messages.batches.results(batch.id)
    for method, path in (("GET", "/results"), ("DELETE", "")):
        headers = {"x-api-key": api.key, "anthropic-version": "2023-06-01"}
        refused = httpx.request(method, f"{api.url}/v1/messages/batches/{batch.id}{path}", headers=headers)
        assert refused.status_code == 409
        assert refused.headers["x-should-retry"] == "false"
        assert refused.json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.ConflictError):
        client.messages.batches.delete(batch.id)


def test_a_deleted_batch_is_gone_in_every_dialect_and_its_objects_with_it(
    api: ServedCore, client: anthropic.Anthropic
) -> None:
    batch, kept = create(client, requested("a")), create(client, requested("a"))
    job = api.core.drive(job_id_of(batch))
    assert client.messages.batches.delete(batch.id).to_dict() == {"id": batch.id, "type": "message_batch_deleted"}
    with pytest.raises(anthropic.NotFoundError) as refusal:
        client.messages.batches.delete(batch.id)
    assert refusal.value.type == "not_found_error"
    assert refusal.value.request_id
    paths = [f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/results", f"/v1/batches/{job.id}"]
    paths += [f"/v1/files/{job.output_file_id}", f"/v1/files/{job.output_file_id}/content"]
    for path in paths:
        assert httpx.get(api.url + path, headers={"x-api-key": api.key}).status_code == 404, path
    assert [each.id for each in client.messages.batches.list(after_id=batch.id, limit=100)] == []
    assert [each.id for each in client.messages.batches.list(before_id=batch.id)] == [kept.id]
    parts = api.core.sql("SELECT object_key FROM result_parts WHERE job_id = :id", id=job.id)
    keys = {job.input_key, *(part["object_key"] for part in parts)}
    settings = replace(api.core.wiring.settings, expiry_grace_s=0)
    sweep_expired(wiring=replace(api.core.wiring, settings=settings))
    stored = {found.key for prefix in ("inputs/", "parts/") for found in api.core.wiring.storage.list(prefix)}
    assert parts
    assert stored.isdisjoint(keys)


def test_results_past_their_life_are_archived(api: ServedCore, client: anthropic.Anthropic) -> None:
    batch = create(client, requested("a"))
    api.core.drive(job_id_of(batch))
    assert client.messages.batches.retrieve(batch.id).archived_at is None
    api.core.sql("UPDATE jobs SET results_expire_at = now() - interval '1 second'")
    archived = client.messages.batches.retrieve(batch.id)
    assert archived.archived_at is not None
    assert (archived.processing_status, archived.request_counts.succeeded) == ("ended", 1)
    with pytest.raises(anthropic.NotFoundError, match="archived"):
        client.messages.batches.results(batch.id)
    assert [each.archived_at for each in client.messages.batches.list()] == [archived.archived_at]


def test_the_beta_client_sees_the_same(api: ServedCore, client: anthropic.Anthropic) -> None:
    beta = client.beta.messages.batches
    batch = beta.create(requests=[requested("a")])  # type: ignore[list-item]
    api.core.drive(batch.id.replace("msgbatch_", "job_"))
    assert beta.retrieve(batch.id).processing_status == "ended"
    assert [line.result.type for line in beta.results(batch.id)] == ["succeeded"]
    assert batch.id in [each.id for each in beta.list(limit=2)]
    assert beta.delete(batch.id).type == "message_batch_deleted"


def test_the_async_client_does_all_of_it_too(api: ServedCore) -> None:
    async def whole() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=api.url, api_key=api.key) as client:
            batch = await client.messages.batches.create(requests=[requested("a"), requested("b")])  # type: ignore[list-item]
            await asyncio.to_thread(api.core.drive, job_id_of(batch))
            kinds = [line.result.type async for line in await client.messages.batches.results(batch.id)]
            async for each in client.messages.batches.list(limit=1):
                assert each.id == batch.id
                break
            await client.messages.batches.delete(batch.id)
            return kinds

    assert asyncio.run(whole()) == ["succeeded"] * 2


def test_both_ways_to_send_a_key_are_taken_and_a_wrong_one_is_told_apart(api: ServedCore) -> None:
    for key in ({"api_key": api.key}, {"auth_token": api.key, "api_key": None}):
        with anthropic.Anthropic(base_url=api.url, **key) as client:  # type: ignore[arg-type]
            assert client.messages.batches.list().data == []
    stranger = anthropic.Anthropic(base_url=api.url, api_key="ns_wrong", max_retries=0)
    with stranger, pytest.raises(anthropic.AuthenticationError) as refusal:
        stranger.messages.batches.list()
    assert refusal.value.type == "authentication_error"


def test_a_message_that_no_worker_can_answer_is_an_overload_and_says_when_to_come_back(
    client: anthropic.Anthropic,
) -> None:
    with pytest.raises(anthropic.InternalServerError) as refused:
        client.with_options(max_retries=0).messages.create(**requested("id")["params"])
    assert type(refused.value).__name__ == "OverloadedError"
    assert (refused.value.status_code, refused.value.type) == (529, "overloaded_error")
    assert int(refused.value.response.headers["Retry-After"]) >= 1


def test_another_tenants_batch_is_as_good_as_absent(api: ServedCore, client: anthropic.Anthropic) -> None:
    batch = create(client, requested("a"))
    api.core.drive(job_id_of(batch))
    other = anthropic.Anthropic(base_url=api.url, api_key=api.new_key("stranger"), max_retries=0)
    own = other.messages.batches
    calls: list[Callable[[str], Any]] = [own.retrieve, own.cancel, own.delete, own.results]
    calls += [lambda each: own.list(after_id=each), lambda each: own.list(before_id=each)]
    for call in calls:
        said = set()
        for batch_id in (batch.id, f"msgbatch_{'0' * 32}"):
            with pytest.raises(anthropic.NotFoundError) as refusal:
                call(batch_id)
            said.add(refusal.value.message.replace(batch_id[-32:], "").replace(refusal.value.request_id or "", ""))
        assert len(said) == 1, said
    assert own.list().data == []
    assert client.messages.batches.retrieve(batch.id).request_counts.succeeded == 1


class TestAcrossDialects:
    """One job, whichever SDK made it."""

    @pytest.fixture
    def vendor(self, api: ServedCore) -> Iterator[openai.OpenAI]:
        """The other SDK."""
        with openai.OpenAI(base_url=f"{api.url}/v1", api_key=api.key, _strict_response_validation=True) as made:
            yield made

    def test_a_batch_of_messages_is_read_with_the_openai_sdk(
        self, api: ServedCore, client: anthropic.Anthropic, vendor: openai.OpenAI
    ) -> None:
        made = create(client, requested("good", "hello"), requested("bad", max_tokens=0))
        api.core.drive(job_id_of(made))
        batch = vendor.batches.retrieve(made.id.replace("msgbatch_", "batch_"))
        assert (batch.status, batch.endpoint, batch.model) == ("completed", "/v1/chat/completions", "chat")
        assert batch.request_counts is not None
        assert batch.request_counts.to_dict() == {"total": 2, "completed": 1, "failed": 1}
        (good,) = map(json.loads, vendor.files.content(batch.output_file_id or "").text.splitlines())
        (bad,) = map(json.loads, vendor.files.content(batch.error_file_id or "").text.splitlines())
        assert good["response"]["body"]["choices"][0]["message"]["content"] == "hello"
        assert (bad["custom_id"], bad["response"]["status_code"]) == ("bad", 400)

    def test_a_batch_of_chat_completions_is_read_with_the_anthropic_sdk(
        self, api: ServedCore, client: anthropic.Anthropic, vendor: openai.OpenAI
    ) -> None:
        bodies = {
            text: {"model": "chat", "messages": [{"role": "user", "content": text}]} for text in ("hello", "refuse")
        }
        lines = [
            {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
            for name, body in bodies.items()
        ]
        file = vendor.files.create(file=("in.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
        made = vendor.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        api.core.drive(made.id.replace("batch_", "job_"))
        batch = client.messages.batches.retrieve(made.id.replace("batch_", "msgbatch_"))
        assert (batch.processing_status, batch.request_counts.succeeded, batch.request_counts.errored) == (
            "ended",
            1,
            1,
        )
        found = results(client, batch)
        hello, refused = found["hello"].result, found["refuse"].result
        assert hello.type == "succeeded"
        assert [block.text for block in hello.message.content if block.type == "text"] == ["hello"]
        assert refused.type == "errored"
        assert batch.id not in [each.id for each in client.messages.batches.list()]
        with pytest.raises(anthropic.BadRequestError):
            client.messages.batches.delete(batch.id)

    def test_every_job_is_read_natively_and_tells_where_else_it_is_found(
        self, api: ServedCore, client: anthropic.Anthropic
    ) -> None:
        made = create(client, requested("good", "hello"), requested("bad", max_tokens=0))
        api.core.drive(job_id_of(made))
        with httpx.Client(base_url=api.url, headers={"x-api-key": api.key}) as native:
            job = native.get(f"/v1/jobs/{made.id}").json()
            assert (job["id"], job["state"]) == (job_id_of(made), "partially_succeeded")
            versioned = {"anthropic-version": "2023-06-01"}
            assert native.get(job["links"]["anthropic_batch"], headers=versioned).json()["id"] == made.id
            assert native.get(job["links"]["openai_batch"]).json()["status"] == "completed"
            lines = [json.loads(line) for line in native.get(job["links"]["results"]).text.splitlines()]
            assert {line["custom_id"]: line["status"] for line in lines} == {"good": "succeeded", "bad": "failed"}
            assert native.get(f"/v1/jobs/{made.id}/results/good").json()["usage"]["output_tokens"] == 2
            echoed = native.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "input": "x"}).json()
            assert "anthropic_batch" not in echoed["links"]
            absent = native.get(f"/v1/messages/batches/{echoed['id']}", headers=versioned)
            assert (absent.status_code, absent.json()["error"]["type"]) == (404, "not_found_error")

    def test_a_retry_runs_what_had_errored_again_and_the_batch_shows_it(
        self, api: ServedCore, client: anthropic.Anthropic
    ) -> None:
        made = create(client, requested("good"), requested("bad", "refuse"))
        job_id = job_id_of(made)
        api.core.drive(job_id)
        with httpx.Client(base_url=api.url, headers={"x-api-key": api.key}) as native:
            native.post(f"/v1/jobs/{job_id}/retry", json={}).raise_for_status()
        again = client.messages.batches.retrieve(made.id)
        assert (again.processing_status, again.results_url, again.request_counts.processing) == ("in_progress", None, 1)
        api.core.drive(job_id)
        assert sorted(line.result.type for line in results(client, made).values()) == ["errored", "succeeded"]
        api.core.checker.check_job(job_id)
