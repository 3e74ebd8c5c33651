"""``/v1/messages/batches`` request by request, as any client of the Anthropic API may send them."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import orjson
import pytest
from sqlalchemy import text
from tenant_api import Api
from werkzeug.test import TestResponse

from app.api.error_handlers import MAX_RETRY_AFTER_S
from app.factory import create_app
from app.wiring import Wiring

ROUTE = "/v1/messages/batches"
PARAMS = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
VERSIONS = ("2023-06-01", "2026-10-21")
COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")


@pytest.fixture
def small(wiring: Wiring, api: Api) -> Api:
    """The same tenant, where limits are near."""
    settings = replace(wiring.settings, max_message_batch_bytes=3000, max_message_batch_items=5, max_line_bytes=1000)
    return Api(create_app(replace(wiring, settings=settings)).test_client(), api.key, api.key_id)


@pytest.fixture
def key() -> str:
    """An idempotency key that nobody has used."""
    return uuid4().hex


def requested(*custom_ids: str, **params: Any) -> list[dict[str, Any]]:
    return [{"custom_id": custom_id, "params": {**PARAMS, **params}} for custom_id in custom_ids]


def send(api: Api, method: str, path: str = "", *, version: str | None = VERSIONS[0], **kwargs: Any) -> TestResponse:
    headers = {**kwargs.pop("headers", {}), **({"anthropic-version": version} if version else {})}
    return api.call(method, ROUTE + path, headers=headers, **kwargs)


def create(api: Api, *custom_ids: str, **kwargs: Any) -> TestResponse:
    return send(api, "POST", json={"requests": requested(*custom_ids)}, **kwargs)


def refusal(answer: TestResponse, status: int, kind: str) -> str:
    """The message of an error, after checking that it is one of this dialect."""
    assert answer.status_code == status, answer.text
    shown = answer.json
    assert shown == {"type": "error", "error": shown["error"], "request_id": answer.headers["request-id"]}
    assert shown["error"].keys() == {"type", "message"}
    assert shown["error"]["type"] == kind
    message: str = shown["error"]["message"]
    return message


def listed(api: Api, **query: Any) -> tuple[list[str], bool]:
    answer = send(api, "GET", query_string=query)
    assert answer.status_code == 200, answer.text
    ids = [batch["id"] for batch in answer.json["data"]]
    assert (answer.json["first_id"], answer.json["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return ids, answer.json["has_more"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("scheme", ["Bearer", "X-Api-Key"])
@pytest.mark.parametrize("query", ["", "?beta=true"])
def test_a_batch_is_made_and_shown_whichever_way_it_is_asked_for(
    api: Api, version: str, scheme: str, query: str
) -> None:
    by_key = {"X-Api-Key": api.key, "Authorization": ""} if scheme == "X-Api-Key" else {}
    made = send(api, "POST", query, version=version, headers=by_key, json={"requests": requested("a", "b")})
    assert made.status_code == 200
    batch = made.json
    assert batch["type"] == "message_batch"
    assert batch["id"].startswith("msgbatch_")
    assert batch["processing_status"] == "in_progress"
    assert batch["request_counts"] == {**dict.fromkeys(COUNTS, 0), "processing": 2}
    assert [batch[name] for name in ("ended_at", "cancel_initiated_at", "archived_at", "results_url")] == [None] * 4
    assert batch["created_at"].endswith("Z")
    assert send(api, "GET", f"/{batch['id']}{query}", version=version, headers=by_key).json == batch
    assert made.headers["request-id"] == made.headers["x-request-id"]


def test_the_version_is_kept_with_the_batch(api: Api, wiring: Wiring) -> None:
    kept = {}
    for version in VERSIONS:
        made = create(api, "a", version=version).json["id"].replace("msgbatch_", "job_")
        with wiring.database.begin() as connection:
            query = text("SELECT dialect, endpoint, api_version, n_items FROM jobs WHERE id = :id")
            kept[version] = tuple(connection.execute(query, {"id": made}).one())
    assert kept == {version: ("anthropic", "/v1/chat/completions", version, 1) for version in VERSIONS}


@pytest.mark.parametrize("version", [None, "2024-01-01", ""])
def test_a_missing_or_unknown_version_is_refused_on_every_route(api: Api, version: str | None) -> None:
    batch_id = create(api, "a").json["id"]
    routes = [("POST", ""), ("GET", ""), ("GET", f"/{batch_id}"), ("DELETE", f"/{batch_id}")]
    routes += [("POST", f"/{batch_id}/cancel"), ("GET", f"/{batch_id}/results")]
    headers = {} if version is None else {"anthropic-version": version}
    for method, path in routes:
        answer = api.call(method, ROUTE + path, headers=headers, json={"requests": requested("a")})
        assert "anthropic-version" in refusal(answer, 400, "invalid_request_error"), (method, path)
    assert "anthropic-version" in refusal(api.post("/v1/messages", json=PARAMS), 400, "invalid_request_error")


def test_a_wrong_key_an_unknown_path_and_a_wrong_method_are_told_in_this_dialect(api: Api) -> None:
    stranger = Api(api.client, "ns_wrong", "none")
    assert refusal(send(stranger, "GET"), 401, "authentication_error")
    assert refusal(send(api, "GET", f"/msgbatch_{'0' * 32}"), 404, "not_found_error")
    assert refusal(send(api, "GET", "/nothing/of/this/kind"), 404, "not_found_error")
    assert refusal(send(api, "PUT"), 405, "invalid_request_error")
    assert api.get("/v1/messagesandmore").json["error"]["code"] == "not_found"


@pytest.mark.parametrize("custom_id", ["a", "A-z_09", "x" * 64])
def test_a_usable_custom_id_is_taken(api: Api, custom_id: str) -> None:
    assert create(api, custom_id).status_code == 200


@pytest.mark.parametrize(
    ("requests", "names"),
    [
        (requested(""), "requests[0].custom_id"),
        (requested("a", "b c"), "requests[1].custom_id"),
        (requested("ümlaut"), "requests[0].custom_id"),
        (requested("a\n"), "requests[0].custom_id"),
        (requested("x" * 65), "requests[0].custom_id"),
        ([{"custom_id": 7, "params": PARAMS}], "requests[0].custom_id"),
        ([{"params": PARAMS}], "requests[0].custom_id"),
        (requested("a", "b", "a"), "requests[2].custom_id"),
        ([{"custom_id": "a"}], "requests[0].params"),
        ([{"custom_id": "a", "params": {}, "priority": 1}], "requests[0].priority"),
        (["a"], "requests[0]"),
        ([], "requests"),
        ({"a": 1}, "requests"),
        (None, "requests"),
        ("a", "requests"),
    ],
)
def test_a_wrong_frame_refuses_the_batch_and_is_named(api: Api, wiring: Wiring, requests: Any, names: str) -> None:
    message = refusal(send(api, "POST", json={"requests": requests}), 400, "invalid_request_error")
    assert names in message
    assert listed(api) == ([], False)
    assert _objects(wiring, api) == []


@pytest.mark.parametrize("params", [None, 7, "text", [], {}, {"model": 5}, {**PARAMS, "stream": True}])
def test_wrong_params_do_not_refuse_the_batch(api: Api, params: Any) -> None:
    made = send(api, "POST", json={"requests": [{"custom_id": "a", "params": params}, *requested("b")]})
    assert (made.status_code, made.json["request_counts"]["processing"]) == (200, 2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"requests": [{}',
        b'{"requests": [' + orjson.dumps(requested("a")[0]) + b",]}",
        b'{"requests": ' + orjson.dumps(requested("a")) + b"} {}",
        b'{"requests": [{"custom_id": "a", "params": {"x": NaN}}]}',
        b'{"requests": [{"custom_id": "a", "params": ' + b"[" * 200 + b"]" * 200 + b"}]}",
        b'{"requests": [{"custom_id": "a", "params": {"x": "\xff"}}]}',
        b'{"more": 1}',
        b'{"requests": [], "more": 1}',
        b'{"requests": ' + orjson.dumps(requested("a")) + b', "more": 1}',
        b'{"requests": ' + orjson.dumps(requested("a")) + b', "nightshift": {"priority": "first"}}',
        b'{"requests": ' + orjson.dumps(requested("a")) + b', "nightshift": nope}',
        b'{"requests": '
        + orjson.dumps(requested("a"))
        + b', "nightshift": {"webhook": {"url": "https://169.254.169.254/"}}}',
        b'{"requests": ' + orjson.dumps(requested("a")) + b', "requests": ' + orjson.dumps(requested("b")) + b"}",
    ],
)
def test_a_body_that_is_none_is_refused_and_leaves_nothing(api: Api, wiring: Wiring, body: bytes) -> None:
    answer = send(api, "POST", data=body, content_type="application/json")
    assert refusal(answer, 400, "invalid_request_error")
    assert listed(api) == ([], False)
    assert _objects(wiring, api) == []


def test_a_body_of_another_kind_is_refused(api: Api) -> None:
    body = orjson.dumps({"requests": requested("a")})
    assert "JSON" in refusal(send(api, "POST", data=body, content_type="text/plain"), 400, "invalid_request_error")
    packed = send(api, "POST", data=body, content_type="application/json", headers={"Content-Encoding": "gzip"})
    assert "compressed" in refusal(packed, 400, "invalid_request_error")


def test_any_way_to_write_json_is_read_the_same(api: Api, wiring: Wiring) -> None:
    nested = requested("a", system='A "quoted" [text] {with} \\ brackets,\n lines and ü')
    for indent in (None, 3):
        body = {"nightshift": {"priority": "urgent"}, "requests": nested}
        made = send(api, "POST", data=json.dumps(body, indent=indent), content_type="application/json")
        assert made.status_code == 200, made.text
        job = api.get(f"/v1/jobs/{made.json['id']}").json
        assert job["priority"] == "urgent"
        assert _input(wiring, job["id"]) == orjson.dumps(nested[0]) + b"\n"


class TestLimits:
    """What is too much: 413."""

    def test_one_request_too_many(self, small: Api) -> None:
        assert create(small, *"abcde").status_code == 200
        assert "5 requests" in refusal(create(small, *"abcdef"), 413, "request_too_large")

    def test_one_request_too_long(self, small: Api, wiring: Wiring) -> None:
        answer = send(small, "POST", json={"requests": requested("a", system="x" * 1000)})
        assert refusal(answer, 413, "request_too_large")
        assert _objects(wiring, small) == []

    @pytest.mark.parametrize("is_announced", [True, False])
    @pytest.mark.parametrize(("n_bytes", "status"), [(3000, 200), (3001, 413), (4000, 413)])
    def test_a_body_too_long_whether_or_not_it_says_so(
        self, small: Api, wiring: Wiring, n_bytes: int, status: int, *, is_announced: bool
    ) -> None:
        body = orjson.dumps({"requests": requested("a")}).ljust(n_bytes)
        sent: dict[str, Any] = {"data": body, "content_type": "application/json"}
        if not is_announced:
            sent = _unannounced(io.BytesIO(body))
        answer = send(small, "POST", **sent)
        assert answer.status_code == status, answer.text
        if status == 413:
            refusal(answer, 413, "request_too_large")
            assert _objects(wiring, small) == []

    def test_memory_stays_bounded_while_a_large_batch_comes_in(self, api: Api) -> None:
        n_items, filling = 8_000, "x" * 10_000
        tracemalloc.start()
        made = send(api, "POST", **_unannounced(_Stream(_body_pieces(n_items, filling))))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (made.status_code, made.json["request_counts"]["processing"]) == (200, n_items)
        assert peak < 60 * 1024 * 1024, f"{peak} bytes for a body of {n_items * len(filling)}"


class TestLists:
    """Walked in both directions."""

    @pytest.fixture
    def made(self, api: Api) -> list[str]:
        """Batches, newest first, as a list shows them."""
        return [create(api, "a").json["id"] for _ in range(7)][::-1]

    def test_the_newest_come_first(self, api: Api, made: list[str]) -> None:
        assert listed(api) == (made, False)
        assert listed(api, limit=3) == (made[:3], True)
        assert listed(api, limit=7, beta="true") == (made, False)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_walking_back_in_time_gives_each_once_while_others_come(
        self, api: Api, made: list[str], limit: int
    ) -> None:
        found, query = [], {}
        while True:
            page, has_more = listed(api, limit=limit, **query)
            found += page
            create(api, "later")
            if not has_more:
                break
            query = {"after_id": page[-1]}
        assert found == made

    @pytest.mark.parametrize("limit", [1, 2, 3, 7])
    def test_walking_forward_in_time_gives_each_once_newcomers_too(self, api: Api, made: list[str], limit: int) -> None:
        found, before = [made[-1]], made[-1]
        while True:
            page, has_more = listed(api, limit=limit, before_id=before)
            found = page + found
            if not has_more:
                break
            before = page[0]
        assert found == made
        later = create(api, "later").json["id"]
        assert listed(api, limit=limit, before_id=made[0]) == ([later], False)

    def test_a_deleted_batch_still_marks_its_place(self, api: Api, wiring: Wiring, made: list[str]) -> None:
        with wiring.database.begin() as connection:
            own = {"id": made[3].replace("msgbatch_", "job_")}
            connection.execute(text("UPDATE jobs SET state = 'failed' WHERE id = :id"), own)
        assert send(api, "DELETE", f"/{made[3]}").json == {"id": made[3], "type": "message_batch_deleted"}
        assert listed(api) == (made[:3] + made[4:], False)
        assert listed(api, after_id=made[3]) == (made[4:], False)
        assert listed(api, before_id=made[3]) == (made[:3], False)

    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ({"limit": 0}, 400),
            ({"limit": 1001}, 400),
            ({"limit": 1000}, 200),
            ({"limit": "many"}, 400),
            ({"after": "x"}, 400),
            ({"after_id": "nonsense"}, 404),
            ({"before_id": "nonsense"}, 404),
            ({"before_id": f"msgbatch_{'0' * 32}"}, 404),
        ],
    )
    def test_a_query_that_means_nothing_is_refused(self, api: Api, query: dict[str, Any], status: int) -> None:
        answer = send(api, "GET", query_string=query)
        assert answer.status_code == status
        if status != 200:
            refusal(answer, status, "invalid_request_error" if status == 400 else "not_found_error")

    def test_two_directions_at_once_are_refused(self, api: Api, made: list[str]) -> None:
        answer = send(api, "GET", query_string={"after_id": made[0], "before_id": made[1]})
        assert "before_id" in refusal(answer, 400, "invalid_request_error")

    def test_only_batches_of_this_dialect_are_listed(self, api: Api) -> None:
        api.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "input": "x"})
        assert listed(api) == ([], False)


class TestIdempotency:
    """The same request, however often it is sent."""

    def test_the_same_request_makes_one_batch(self, api: Api, key: str, wiring: Wiring) -> None:
        first, second = (create(api, "a", headers={"Idempotency-Key": key}) for _ in range(2))
        assert second.data == first.data
        assert second.headers["idempotent-replayed"] == "true"
        assert len(listed(api)[0]) == 1
        assert len(_objects(wiring, api)) == 1

    def test_another_body_or_version_under_the_same_key_is_refused(self, api: Api, key: str) -> None:
        create(api, "a", headers={"Idempotency-Key": key})
        other = create(api, "b", headers={"Idempotency-Key": key})
        assert "Idempotency-Key" in refusal(other, 422, "invalid_request_error")
        later = create(api, "a", headers={"Idempotency-Key": key}, version=VERSIONS[1])
        assert refusal(later, 422, "invalid_request_error")
        assert len(listed(api)[0]) == 1

    def test_requests_at_once_make_one_batch(self, api: Api, key: str, wiring: Wiring) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: create(api, "a", headers={"Idempotency-Key": key}), range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.data for answer in answers}) == 1
        assert len(_objects(wiring, api)) == 1

    def test_a_refused_request_leaves_its_key_free(self, api: Api, key: str) -> None:
        assert create(api, "a b", headers={"Idempotency-Key": key}).status_code == 400
        assert create(api, "ab", headers={"Idempotency-Key": key}).status_code == 200


def test_past_the_requests_per_minute_it_says_when_to_come_back(api: Api, admin: Api) -> None:
    (name,) = [each["tenant"] for each in admin.get("/v1/admin/keys").json["data"] if each["key_id"] == api.key_id]
    admin.call("PATCH", f"/v1/admin/tenants/{name}", json={"requests_per_minute": 1})
    assert create(api, "a").headers["x-ratelimit-remaining-requests"] == "0"
    refused = create(api, "b")
    refusal(refused, 429, "rate_limit_error")
    assert 1 <= int(refused.headers["Retry-After"]) <= MAX_RETRY_AFTER_S
    assert send(api, "GET").status_code == 200


def test_past_the_storage_quota_a_batch_is_refused(api: Api, admin: Api, wiring: Wiring) -> None:
    (name,) = [each["tenant"] for each in admin.get("/v1/admin/keys").json["data"] if each["key_id"] == api.key_id]
    admin.call("PATCH", f"/v1/admin/tenants/{name}", json={"max_storage_bytes": 10})
    assert refusal(create(api, "a"), 403, "permission_error")
    assert _objects(wiring, api) == []


def _tenant_of(wiring: Wiring, api: Api) -> str:
    with wiring.database.begin() as connection:
        found = connection.execute(text("SELECT tenant_id FROM api_keys WHERE id = :id"), {"id": api.key_id})
        return str(found.scalar_one())


def _objects(wiring: Wiring, api: Api) -> list[str]:
    return [found.key for found in wiring.storage.list(f"inputs/{_tenant_of(wiring, api)}/")]


def _input(wiring: Wiring, job_id: str) -> bytes:
    with wiring.database.begin() as connection:
        key = connection.execute(text("SELECT input_key FROM jobs WHERE id = :id"), {"id": job_id}).scalar_one()
    with wiring.storage.open(key) as reader:
        return reader.read()


def _unannounced(body: io.IOBase) -> dict[str, Any]:
    """What makes a request of a body whose length is not known."""
    chunked = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    return {"content_type": "application/json", "environ_overrides": chunked}


def _body_pieces(n_items: int, filling: str) -> Iterator[bytes]:
    yield b'{"requests": ['
    for n in range(n_items):
        yield (b"," if n else b"") + orjson.dumps(requested(f"id-{n}", system=filling)[0])
    yield b"]}"


class _Stream(io.RawIOBase):
    """A request body that is made while it is read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._rest = self._rest or next(self._pieces, b"")
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)
