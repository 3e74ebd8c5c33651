"""What clients do with the ``openai`` SDK, in one process: run by a test with whichever release is on its path.

    python openai_calls.py VERSION < what.json

``what.json`` holds what ``Given`` says. Every check is written once, for the synchronous and the asynchronous client,
with strict response validation and, where that makes a difference, with the default one; the process prints a line of
JSON for each that was made.
"""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import openai
from openai.types import Batch, CreateEmbeddingResponse, FileDeleted, FileObject, Model, Upload

ENDED = {"completed", "failed", "expired", "cancelled"}
PATIENCE_S = 30
POLL_S = 0.05
ENCODER = "all-MiniLM-L6-v2"
LIFE_S = 3_600

Checked = TypeVar("Checked", bound=openai.BaseModel)
Check = Callable[["Caller"], Awaitable[None]]
CHECKS: list[Check] = []


@dataclass(frozen=True)
class Given:
    """What the test has prepared."""

    url: str
    api_key: str
    """Of a tenant that nobody else uses."""
    narrow_key: str
    """Of a tenant that may send one request a minute and store nothing."""
    foreign_file: str
    """A file of somebody else."""
    expiring_batch: str
    """A batch whose window closes before it ran."""


class Caller:
    """A client of either kind, called in one way."""

    def __init__(self, given: Given, *, is_async: bool, is_strict: bool, **options: Any) -> None:
        self.given = given
        self.is_strict = is_strict
        made: Any = openai.AsyncOpenAI if is_async else openai.OpenAI
        known: dict[str, Any] = {"base_url": given.url, "api_key": given.api_key, "max_retries": 0}
        self.client: Any = made(**{**known, **options}, _strict_response_validation=is_strict)
        self._others: list[Caller] = []

    def other(self, **options: Any) -> Caller:
        """The same with other options."""
        is_async = isinstance(self.client, openai.AsyncOpenAI)
        made = Caller(self.given, is_async=is_async, is_strict=self.is_strict, **options)
        self._others.append(made)
        return made

    async def close(self) -> None:
        """Close every client, in the event loop it was used in: the SDK of before does so itself in any other."""
        for caller in (self, *self._others):
            await caller.ask(caller.client.close)

    async def ask(self, call: Callable[..., Any], *args: Any, **options: Any) -> Any:
        answer = call(*args, **options)
        return await answer if inspect.isawaitable(answer) else answer

    async def checked(self, kind: type[Checked], call: Any, *args: Any, **options: Any) -> Checked:
        """Ask, and hold what came over the wire to the SDK's published type."""
        raw = await self.ask(call, *args, **options)
        kind.model_validate_json(raw.text, strict=True)
        assert raw.headers["x-request-id"].startswith("req_")
        assert int(raw.headers["x-ratelimit-limit-requests"]) > 0
        parsed: Checked = raw.parse()
        assert isinstance(parsed, kind), parsed
        return parsed

    async def items(self, listed: Any) -> AsyncIterator[Any]:
        """What a list holds, over all its pages."""
        if hasattr(listed, "__aiter__"):
            async for item in listed:
                yield item
        else:
            for item in listed:
                yield item

    async def upload(self, lines: Iterable[str], **options: Any) -> FileObject:
        content = "\n".join(lines).encode()
        create = self.client.files.with_raw_response.create
        return await self.checked(FileObject, create, file=("in.jsonl", content), purpose="batch", **options)

    async def start(self, lines: Iterable[str], endpoint: str = "/v1/echo", **options: Any) -> Batch:
        file = await self.upload(lines)
        asked = {"input_file_id": file.id, "endpoint": endpoint, "completion_window": "24h", **options}
        return await self.checked(Batch, self.client.batches.with_raw_response.create, **asked)

    async def wait(self, batch_id: str, wanted: Iterable[str] = ENDED) -> Batch:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            batch = await self.checked(Batch, self.client.batches.with_raw_response.retrieve, batch_id)
            if batch.status in wanted:
                return batch
            assert time.monotonic() < deadline, batch
            assert batch.status not in ENDED, batch
            await asyncio.sleep(POLL_S)

    async def lines(self, file_id: str | None) -> dict[str, Any]:
        """The lines of a file by their ``custom_id``."""
        if file_id is None:
            return {}
        content = await self.ask(self.client.files.content, file_id)
        found = [json.loads(line) for line in content.text.splitlines()]
        return {line["custom_id"]: line for line in found}

    async def refused(self, wanted: type[openai.APIStatusError], call: Any, *args: Any, **options: Any) -> Any:
        """Ask for what will be refused; the error, which must be of that very class."""
        try:
            answer = await self.ask(call, *args, **options)
        except openai.APIStatusError as error:
            found: Any = error
        else:
            raise AssertionError(f"not refused: {answer}")
        assert type(found) is wanted, repr(found)
        assert found.request_id == found.body["request_id"]
        return found


def check(made: Check) -> Check:
    CHECKS.append(made)
    return made


def line(custom_id: str, url: str = "/v1/echo", **body: Any) -> str:
    request = {"model": "echo", "input": "x", **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": request})


def counts(batch: Batch) -> tuple[int, int, int]:
    found = batch.request_counts
    assert found is not None
    return found.total, found.completed, found.failed


@check
async def files(caller: Caller) -> None:
    api = caller.client.files
    expiry = {"anchor": "created_at", "seconds": LIFE_S}
    made = await caller.upload([line("a")], expires_after=expiry)
    assert (made.purpose, made.filename, made.status) == ("batch", "in.jsonl", "processed")
    assert made.expires_at == made.created_at + LIFE_S
    assert await caller.checked(FileObject, api.with_raw_response.retrieve, made.id) == made
    content = await caller.ask(api.content, made.id)
    assert content.read() == line("a").encode()
    assert (await caller.checked(FileDeleted, api.with_raw_response.delete, made.id)).deleted
    for call in (api.retrieve, api.content, api.delete):
        error = await caller.refused(openai.NotFoundError, call, made.id)
        assert (error.code, error.param) == ("not_found", "id")
    await caller.refused(openai.NotFoundError, api.retrieve, caller.given.foreign_file)


@check
async def files_page_by_page(caller: Caller) -> None:
    api = caller.client.files
    made = [(await caller.upload([line("a")])).id for _ in range(3)]
    seen = []
    async for file in caller.items(await caller.ask(api.list, after=made[0], limit=1, order="asc", purpose="batch")):
        seen.append(file.id)
        if len(seen) == 1:
            made.append((await caller.upload([line("a")])).id)
    assert [each for each in seen if each in made] == made[1:]
    page = await caller.ask(api.with_raw_response.list, limit=2)
    shown = json.loads(page.text)
    assert (shown["object"], shown["has_more"]) == ("list", True)
    assert [file["id"] for file in shown["data"]] == [shown["first_id"], shown["last_id"]]
    for file in shown["data"]:
        FileObject.model_validate_json(json.dumps(file), strict=True)


@check
async def batches_page_by_page(caller: Caller) -> None:
    batches = [(await caller.start([line("a")])).id for _ in range(3)]
    walked = []
    async for batch in caller.items(await caller.ask(caller.client.batches.list, limit=1)):
        walked.append(batch.id)
        if len(walked) == 1:
            await caller.start([line("a")])
        if batches[0] in walked:
            break
    assert [each for each in walked if each in batches] == batches[::-1]


@check
async def lists_that_are_refused(caller: Caller) -> None:
    for call in (caller.client.files.list, caller.client.batches.list):
        for after in ("file-none", f"batch_{'0' * 32}"):
            assert (await caller.refused(openai.NotFoundError, call, after=after)).param == "after"
        assert (await caller.refused(openai.BadRequestError, call, limit=0)).param == "limit"


@check
async def a_batch_that_completes(caller: Caller) -> None:
    texts = [line(f"t{n}", "/v1/embeddings", model=ENCODER, input=f"text {n}") for n in range(6)]
    expiry = {"anchor": "created_at", "seconds": LIFE_S}
    metadata = {"team": "loans"}
    made = await caller.start(texts, "/v1/embeddings", metadata=metadata, output_expires_after=expiry)
    assert (made.status, made.output_file_id, made.errors) == ("validating", None, None)
    batch = await caller.wait(made.id)
    assert (batch.status, counts(batch), batch.metadata) == ("completed", (6, 6, 0), metadata)
    moments = [batch.created_at, batch.in_progress_at, batch.finalizing_at, batch.completed_at]
    assert moments == sorted(moments, key=lambda moment: moment or 0)
    assert batch.expires_at == batch.created_at + 86_400
    usage = json.loads(batch.to_json())["usage"]
    assert usage["input_tokens"] == usage["total_tokens"] > 0
    found = await caller.lines(batch.output_file_id)
    assert found.keys() == {f"t{n}" for n in range(6)}
    assert batch.error_file_id is None
    for each in found.values():
        assert (each["response"]["status_code"], each["error"]) == (200, None)
        assert each["response"]["request_id"].startswith("req_")
        CreateEmbeddingResponse.model_validate_json(json.dumps(each["response"]["body"]), strict=True)
    api = caller.client.files
    output = await caller.checked(FileObject, api.with_raw_response.retrieve, batch.output_file_id)
    assert (output.purpose, output.expires_at) == ("batch_output", output.created_at + LIFE_S)
    newest = await caller.ask(api.list, purpose="batch_output", limit=100)
    assert output.id in [file.id for file in newest.data]
    await caller.ask(api.delete, output.id)
    await caller.refused(openai.NotFoundError, api.content, output.id)


@check
async def a_batch_with_items_that_fail(caller: Caller) -> None:
    bad = line("bad", echo={"fail": "invalid_request"})
    batch = await caller.wait((await caller.start([line("good"), bad])).id)
    assert (batch.status, counts(batch)) == ("completed", (2, 1, 1))
    assert (await caller.lines(batch.output_file_id)).keys() == {"good"}
    failed = (await caller.lines(batch.error_file_id))["bad"]
    assert (failed["error"], failed["response"]["status_code"]) == (None, 400)
    assert failed["response"]["body"]["error"]["code"] == "invalid_request"
    alone = await caller.wait((await caller.start([bad])).id)
    assert (alone.status, alone.output_file_id) == ("completed", None)
    assert (await caller.lines(alone.error_file_id)).keys() == {"bad"}


@check
async def a_batch_whose_file_is_refused(caller: Caller) -> None:
    other_model = line("c", model=ENCODER)
    files = {
        "empty_file": ([""], None, None),
        "invalid_json_line": ([line("a"), "{"], 2, None),
        "duplicate_custom_id": ([line("a"), line("a")], 2, "custom_id"),
        "invalid_url": ([line("a", "/v1/embeddings")], 1, "url"),
        "invalid_method": ([line("a").replace("POST", "GET")], 1, "method"),
        "mismatched_model": ([line("a"), other_model], 2, "body.model"),
        "model_not_found": ([line("a", model="none")], 1, "body.model"),
        "missing_required_parameter": (
            ['{"method": "POST", "url": "/v1/echo", "body": {"model": "echo"}}'],
            1,
            "custom_id",
        ),
        "streaming_unsupported": ([line("a", stream=True)], 1, "body.stream"),
    }
    made = {code: (await caller.start(content)).id for code, (content, _, _) in files.items()}
    for code, (_, number, param) in files.items():
        batch = await caller.wait(made[code])
        assert batch.status == "failed", batch
        assert batch.failed_at is not None
        assert batch.completed_at is None
        assert batch.errors is not None
        assert batch.errors.object == "list"
        assert batch.errors.data
        first = batch.errors.data[0]
        assert (first.code, first.line, first.param) == (code, number, param)
        assert first.message
        assert (batch.output_file_id, batch.error_file_id) == (None, None)


@check
async def a_batch_that_is_cancelled(caller: Caller) -> None:
    slow = [line("first"), *(line(f"slow-{n}", echo={"delay_s": 0.2}) for n in range(200))]
    made = await caller.start(slow, extra_body={"nightshift": {"priority": "background"}})
    await caller.wait(made.id, {"in_progress"})
    api = caller.client.batches
    cancelling = await caller.checked(Batch, api.with_raw_response.cancel, made.id)
    assert cancelling.status in {"cancelling", "cancelled"}
    assert cancelling.cancelling_at is not None
    batch = await caller.wait(made.id)
    assert (batch.status, batch.completed_at) == ("cancelled", None)
    assert batch.cancelled_at is not None
    assert (await caller.ask(api.cancel, made.id)).status == "cancelled"
    done, never = await caller.lines(batch.output_file_id), await caller.lines(batch.error_file_id)
    assert len(done) + len(never) == len(slow)
    assert not done.keys() & never.keys()
    assert {(each["response"], each["error"]["code"]) for each in never.values()} == {(None, "batch_cancelled")}


@check
async def a_batch_that_expires(caller: Caller) -> None:
    batch = await caller.wait(caller.given.expiring_batch)
    assert batch.status == "expired"
    assert batch.expired_at is not None
    assert batch.completed_at is None
    never = await caller.lines(batch.error_file_id)
    assert {(each["response"], each["error"]["code"]) for each in never.values()} == {(None, "batch_expired")}


@check
async def uploads_in_parts(caller: Caller) -> None:
    api = caller.client.uploads
    content = "\n".join(line(f"{n}") for n in range(50)).encode()
    asked = {"bytes": len(content), "filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
    made = await caller.checked(Upload, api.with_raw_response.create, **asked)
    assert (made.status, made.file) == ("pending", None)
    halves = [content[:1000], content[1000:]]
    parts = [(await caller.ask(api.parts.create, made.id, data=half)).id for half in halves]
    wrong = await caller.refused(openai.BadRequestError, api.complete, made.id, part_ids=parts[:1])
    assert wrong.param == "part_ids"
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    ended = await caller.checked(Upload, api.with_raw_response.complete, made.id, part_ids=parts, md5=digest)
    assert ended.status == "completed"
    assert ended.file is not None
    stored = await caller.ask(caller.client.files.content, ended.file.id)
    assert stored.read() == content
    await caller.refused(openai.ConflictError, api.cancel, made.id)
    whole = await caller.ask(
        api.upload_file_chunked,
        file=content,
        filename="big.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="batch",
        part_size=1500,
    )
    assert whole.file is not None
    assert whole.file.bytes == len(content)
    given_up = await caller.ask(api.create, **asked)
    assert (await caller.ask(api.cancel, given_up.id)).status == "cancelled"
    large = await caller.refused(openai.APIStatusError, api.create, **{**asked, "bytes": 3 * 1024**3})
    assert (large.status_code, large.code, large.param) == (413, "request_too_large", "bytes")


@check
async def embeddings(caller: Caller) -> None:
    api = caller.client.embeddings
    asked = {"model": ENCODER, "input": ["a cat", "the stock market"]}
    floats = await caller.checked(
        CreateEmbeddingResponse, api.with_raw_response.create, **asked, encoding_format="float"
    )
    assert [vector.index for vector in floats.data] == [0, 1]
    if not caller.is_strict:  # the SDK decodes base64 after the check that would have refused it
        decoded = await caller.ask(api.create, **asked)
        pairs = zip(decoded.data[1].embedding, floats.data[1].embedding, strict=True)
        assert max(abs(left - right) for left, right in pairs) < 1e-6
    for wrong, kind, code, param in (
        ({"model": "none"}, openai.NotFoundError, "model_not_found", "model"),
        ({"model": "echo"}, openai.BadRequestError, "invalid_value", "model"),
        ({"input": 7}, openai.BadRequestError, None, "input"),
        ({"dimensions": 10_000}, openai.BadRequestError, None, "dimensions"),
    ):
        error = await caller.refused(kind, api.create, **{**asked, "encoding_format": "float", **wrong})
        assert error.param == param
        assert code in {None, error.code}


@check
async def models(caller: Caller) -> None:
    api = caller.client.models
    known = {model.id async for model in caller.items(await caller.ask(api.list))}
    assert {ENCODER, "echo"} <= known
    model = await caller.checked(Model, api.with_raw_response.retrieve, ENCODER)
    assert json.loads(model.to_json())["max_input_tokens"] == 256
    error = await caller.refused(openai.NotFoundError, api.retrieve, "none")
    assert (error.code, error.param) == ("model_not_found", "model")


@check
async def wrong_batches(caller: Caller) -> None:
    file = await caller.upload([line("a")])
    notes = await caller.ask(caller.client.files.create, file=("notes.txt", b"x"), purpose="user_data")
    asked = {"input_file_id": file.id, "endpoint": "/v1/echo", "completion_window": "24h"}
    expiry = {"anchor": "created_at", "seconds": 1}
    for wrong, code, param in (
        ({"endpoint": "/v1/none"}, "invalid_value", "endpoint"),
        ({"completion_window": "1y"}, "invalid_value", "completion_window"),
        ({"input_file_id": "file-none"}, "invalid_value", "input_file_id"),
        ({"input_file_id": caller.given.foreign_file}, "invalid_value", "input_file_id"),
        ({"input_file_id": notes.id}, "invalid_value", "input_file_id"),
        ({"output_expires_after": expiry}, "invalid_value", "output_expires_after.seconds"),
        ({"metadata": {f"k{n}": "v" for n in range(17)}}, "invalid_value", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "invalid_value", "metadata.k"),
        ({"extra_body": {"priority": "urgent"}}, "unknown_parameter", "priority"),
        ({"extra_body": {"nightshift": {"priority": "now"}}}, "invalid_value", "nightshift.priority"),
    ):
        error = await caller.refused(openai.BadRequestError, caller.client.batches.create, **{**asked, **wrong})
        assert (error.code, error.param) == (code, param)
    create = caller.client.files.create
    wrong_name = await caller.refused(openai.BadRequestError, create, file=("in.csv", b"x"), purpose="batch")
    assert wrong_name.param == "file"
    wrong_purpose = await caller.refused(openai.BadRequestError, create, file=("in.jsonl", b"x"), purpose="none")
    assert wrong_purpose.param == "purpose"


@check
async def a_conflict_is_sent_once(caller: Caller) -> None:
    done = await caller.wait((await caller.start([line("a")])).id)
    sent: list[str] = []

    def note(request: Any) -> None:
        sent.append(request.url.path)

    async def note_later(request: Any) -> None:
        note(request)

    is_async = isinstance(caller.client, openai.AsyncOpenAI)
    made: Any = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    watched = made(event_hooks={"request": [note_later if is_async else note]})
    patient = caller.other(max_retries=2, http_client=watched)
    error = await patient.refused(openai.ConflictError, patient.client.batches.cancel, done.id)
    assert (error.code, error.response.headers["x-should-retry"]) == ("state_conflict", "false")
    assert len(sent) == 1


@check
async def a_key_that_names_a_request(caller: Caller) -> None:
    file = await caller.upload([line("a")])
    asked = {"input_file_id": file.id, "endpoint": "/v1/echo", "completion_window": "24h"}
    named = {"extra_headers": {"Idempotency-Key": f"key-{time.time_ns()}"}}
    create = caller.client.batches.with_raw_response.create
    first, again = [await caller.ask(create, **asked, **named) for _ in range(2)]
    assert again.text == first.text
    assert again.headers["idempotent-replayed"] == "true"
    other = {**asked, "metadata": {"k": "v"}}
    error = await caller.refused(openai.UnprocessableEntityError, caller.client.batches.create, **other, **named)
    assert (error.code, error.param) == ("idempotency_key_reused", "Idempotency-Key")


@check
async def keys_and_limits(caller: Caller) -> None:
    stranger = caller.other(api_key="ns_wrong")
    error = await stranger.refused(openai.AuthenticationError, stranger.client.models.list)
    assert (error.code, error.type) == ("invalid_api_key", "authentication_error")
    keyed = caller.other(api_key="ns_wrong", default_headers={"X-Api-Key": caller.given.api_key, "Authorization": ""})
    assert (await caller.ask(keyed.client.models.retrieve, "echo")).id == "echo"
    narrow = caller.other(api_key=caller.given.narrow_key)
    create = narrow.client.files.create
    full = await narrow.refused(openai.PermissionDeniedError, create, file=("a.jsonl", b"{}"), purpose="batch")
    assert full.code == "storage_quota_exceeded"
    limited = None
    while limited is None:
        try:
            await caller.ask(narrow.client.embeddings.create, model="none", input="x")
        except openai.NotFoundError:
            continue
        except openai.RateLimitError as error:
            limited = error
    assert (limited.code, limited.response.headers["x-ratelimit-remaining-requests"]) == ("rate_limit_exceeded", "0")
    assert 1 <= int(limited.response.headers["retry-after"]) <= 120


LENIENT_CHECKS = [files, a_batch_that_completes, embeddings, models]
"""With default validation a client reads no less than with the strict one, so not everything is checked again."""


async def make_checks(given: Given, *, is_async: bool, is_strict: bool) -> list[dict[str, Any]]:
    """Make every check with one kind of client, one after another; what is to be told."""
    kind = f"{'async' if is_async else 'sync'}, {'strict' if is_strict else 'default'}"
    told = []
    caller = Caller(given, is_async=is_async, is_strict=is_strict)
    for made in CHECKS if is_strict else LENIENT_CHECKS:
        problem = None
        try:
            await made(caller)
        except Exception:  # noqa: BLE001 - whatever it is, it is told
            problem = traceback.format_exc()
        told.append({"check": made.__name__, "client": kind, "problem": problem})
    await caller.close()
    return told


def main(version: str) -> None:
    """Make every check with every kind of client, the kinds beside one another."""
    assert openai.__version__ == version, openai.__file__
    given = Given(**json.load(sys.stdin))

    def of_kind(kind: tuple[bool, bool]) -> list[dict[str, Any]]:
        return asyncio.run(make_checks(given, is_async=kind[0], is_strict=kind[1]))

    with ThreadPoolExecutor() as threads:
        for told in threads.map(of_kind, product((False, True), repeat=2)):
            print("\n".join(map(json.dumps, told)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
