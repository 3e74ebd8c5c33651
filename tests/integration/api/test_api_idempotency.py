"""``Idempotency-Key``: the same request, however often it is sent, creates once and is answered the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from sqlalchemy import text
from tenant_api import Api
from werkzeug.test import TestResponse

from app.factory import create_app
from app.services import answer_once
from app.services.sweep_expired import sweep_expired
from app.wiring import Wiring

JOB = {"endpoint": "/v1/echo", "model": "echo", "input": "hello"}
REPLAYED = "idempotent-replayed"


@pytest.fixture
def key() -> str:
    """A key that nobody has used."""
    return uuid4().hex


def _post(api: Api, key: str, path: str = "/v1/jobs", body: Any = JOB) -> TestResponse:
    return api.post(path, json=body, headers={"Idempotency-Key": key})


def _n_jobs(api: Api) -> int:
    return len(api.get("/v1/jobs?limit=100").json["data"])


def _n_blobs(wiring: Wiring, api: Api) -> int:
    with wiring.database.begin() as connection:
        tenant_id = connection.execute(text("SELECT tenant_id FROM api_keys WHERE id = :id"), {"id": api.key_id})
        folder = tenant_id.scalar_one()
    return sum(1 for prefix in ("inputs", "files") for _ in wiring.storage.list(f"{prefix}/{folder}/"))


def _age(wiring: Wiring, key: str, interval: str) -> None:
    statement = text("UPDATE idempotency_keys SET created_at = now() - cast(:age AS interval) WHERE key = :key")
    with wiring.database.begin() as connection:
        assert connection.execute(statement, {"age": interval, "key": key}).rowcount == 1


def _is_kept(wiring: Wiring, key: str) -> bool:
    with wiring.database.begin() as connection:
        query = text("SELECT count(*) FROM idempotency_keys WHERE key = :key")
        return bool(connection.execute(query, {"key": key}).scalar_one())


def test_the_same_request_is_answered_as_before_and_creates_nothing(api: Api, key: str) -> None:
    first, second = _post(api, key), _post(api, key)
    assert (first.status_code, REPLAYED in first.headers) == (202, False)
    assert (second.status_code, second.headers[REPLAYED]) == (202, "true")
    assert second.data == first.data
    assert second.headers["Location"] == first.headers["Location"] == f"/v1/jobs/{first.json['id']}"
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert _n_jobs(api) == 1


def test_another_body_under_the_same_key_is_refused(api: Api, key: str) -> None:
    _post(api, key)
    refused = _post(api, key, body={**JOB, "input": "something else"})
    assert (refused.status_code, refused.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert refused.json["error"]["param"] == "Idempotency-Key"
    assert _n_jobs(api) == 1


def test_twenty_requests_at_once_make_one_job(api: Api, key: str, wiring: Wiring) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: _post(api, key), range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.data for answer in answers}) == 1
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert _n_jobs(api) == 1
    assert _n_blobs(wiring, api) == 1


def test_another_tenants_same_key_is_another_key(api: Api, other: Api, key: str) -> None:
    mine, theirs = _post(api, key), _post(other, key, body={**JOB, "input": "theirs"})
    assert (mine.status_code, theirs.status_code) == (202, 202)
    assert mine.json["id"] != theirs.json["id"]


def test_another_routes_same_key_is_another_key(api: Api, key: str) -> None:
    file_id = api.upload(b'{"custom_id": "a", "body": {}}\n').json["id"]
    batch = {"input_file_id": file_id, "endpoint": "/v1/echo", "completion_window": "24h"}
    assert _post(api, key).status_code == 202
    made = _post(api, key, "/v1/batches", batch)
    assert (made.status_code, REPLAYED in made.headers) == (200, False)
    again = _post(api, key, "/v1/batches", batch)
    assert (again.data, again.headers[REPLAYED]) == (made.data, "true")


def test_an_answer_outlives_what_it_was_made_from(api: Api, key: str) -> None:
    """The retry of a request that succeeded succeeds, whatever has become of its file."""
    file_id = api.upload(b'{"custom_id": "a", "body": {}}\n').json["id"]
    body = {"endpoint": "/v1/echo", "model": "echo", "input_file_id": file_id}
    first = _post(api, key, body=body)
    api.delete(f"/v1/files/{file_id}")
    assert _post(api, key, body=body).data == first.data


def test_an_expired_key_is_free_before_it_is_swept_and_gone_afterwards(api: Api, key: str, wiring: Wiring) -> None:
    first = _post(api, key)
    _age(wiring, key, "23 hours 59 minutes")
    sweep_expired(wiring=wiring)
    assert _post(api, key).data == first.data
    _age(wiring, key, "24 hours")
    second = _post(api, key, body={**JOB, "input": "another"})
    assert (second.status_code, REPLAYED in second.headers) == (202, False)
    _age(wiring, key, "24 hours")
    sweep_expired(wiring=wiring)
    assert not _is_kept(wiring, key)


@pytest.mark.parametrize("bad", ["", "two words", "x" * 256, "umläut", "tab\there"])
def test_a_key_that_is_none_is_refused_by_name(api: Api, bad: str) -> None:
    refused = _post(api, bad.encode().decode("latin-1"))
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "Idempotency-Key")
    assert _n_jobs(api) == 0


def test_the_longest_key_is_taken(api: Api) -> None:
    assert _post(api, uuid4().hex + "~" * 223).status_code == 202


@pytest.mark.parametrize("refused", [{**JOB, "endpoint": "/v1/none"}, {**JOB, "input_file_id": "file-none"}, "text"])
def test_a_refused_request_leaves_its_key_free(api: Api, key: str, wiring: Wiring, refused: Any) -> None:
    assert _post(api, key, body=refused).status_code == 400
    assert not _is_kept(wiring, key)
    assert _post(api, key).status_code == 202


def test_a_creator_that_fails_before_its_commit_leaves_its_key_free(
    api: Api, key: str, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key is written in the creating transaction, so what ends the one ends the other."""

    def dies(*_args: object) -> None:
        raise RuntimeError("the process ends here")

    with monkeypatch.context() as broken:
        broken.setattr("app.services.submit_job.notify", dies)
        broken.setitem(api.client.application.config, "PROPAGATE_EXCEPTIONS", False)
        assert _post(api, key).status_code == 500
    assert not _is_kept(wiring, key)
    assert (_n_jobs(api), _n_blobs(wiring, api)) == (0, 0)
    assert _post(api, key).status_code == 202


def test_a_retry_finds_the_job_whose_answer_was_lost_on_the_way(
    api: Api, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit took place, but the database connection broke before anybody heard of it."""
    from app.db.session import Database
    from app.errors import DatabaseUnavailable

    begin = Database.begin

    @contextmanager
    def breaks_after_commit(database: Database) -> Any:
        with begin(database) as connection:
            yield connection
            made = connection.execute(text("SELECT count(*) FROM idempotency_keys WHERE key = :key"), {"key": key})
            breaks = bool(made.scalar_one())
        if breaks:
            raise DatabaseUnavailable("the database connection broke", retry_after_s=1)

    with monkeypatch.context() as broken:
        broken.setattr(Database, "begin", breaks_after_commit)
        assert _post(api, key).status_code == 503
    found = _post(api, key)
    assert (found.status_code, found.headers[REPLAYED]) == (202, "true")
    assert api.get(f"/v1/jobs/{found.json['id']}").status_code == 200
    assert _n_jobs(api) == 1


def test_another_process_answers_as_the_first_one_did(api: Api, key: str, wiring: Wiring) -> None:
    first = _post(api, key)
    restarted = Api(create_app(wiring).test_client(), api.key, api.key_id)
    assert _post(restarted, key).data == first.data


@contextmanager
def _somebody_holds(wiring: Wiring, api: Api, key: str) -> Any:
    """Another process stands still between writing the key and its commit."""
    statement = text(
        "INSERT INTO idempotency_keys (tenant_id, route, key, body_sha256, status, sealed_body)"
        " SELECT tenant_id, 'POST /v1/jobs', :key, '', 202, '' FROM api_keys WHERE id = :key_id"
    )
    with wiring.database.engine.connect() as connection:
        connection.execute(statement, {"key": key, "key_id": api.key_id})
        yield connection
        connection.rollback()


def test_a_request_waits_for_another_with_its_key_but_not_for_ever(
    api: Api, key: str, wiring: Wiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_once, "MOST_WAIT_S", 1)
    with _somebody_holds(wiring, api, key):
        busy = _post(api, key)
    assert (busy.status_code, busy.json["error"]["code"]) == (503, "idempotency_key_in_use")
    assert int(busy.headers["Retry-After"]) >= 1
    assert _n_blobs(wiring, api) == 0
    assert _post(api, key).status_code == 202


def test_who_waits_creates_where_the_other_dies(api: Api, key: str, wiring: Wiring) -> None:
    with ThreadPoolExecutor(1) as pool:
        with _somebody_holds(wiring, api, key) as held:
            waiting = pool.submit(_post, api, key)
            assert not waiting.done()
            held.rollback()
        assert waiting.result().status_code == 202
    assert _n_jobs(api) == 1


def _upload(api: Api, key: str, content: bytes, *, boundary: str = "b", **fields: str) -> TestResponse:
    def part(name: str, value: bytes, more: str = "") -> bytes:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'
        return head.encode() + value + b"\r\n"

    named = {"purpose": "batch", **fields}
    body = b"".join(part(name, value.encode()) for name, value in named.items())
    body += part("file", content, '; filename="a.jsonl"') + f"--{boundary}--\r\n".encode()
    form = f"multipart/form-data; boundary={boundary}"
    return api.post("/v1/files", data=body, content_type=form, headers={"Idempotency-Key": key})


def test_an_upload_is_the_same_by_its_content_not_by_its_form(api: Api, key: str, wiring: Wiring) -> None:
    content = b"x" * 300_000
    first, second = _upload(api, key, content), _upload(api, key, content, boundary="another")
    assert (second.data, second.headers[REPLAYED]) == (first.data, "true")
    assert _n_blobs(wiring, api) == 1
    for other in (_upload(api, key, content + b"y"), _upload(api, key, content, purpose="user_data")):
        assert (other.status_code, other.json["error"]["code"]) == (422, "idempotency_key_reused")
    assert len(api.get("/v1/files").json["data"]) == 1


def test_an_upload_that_breaks_off_leaves_its_key_free(api: Api, key: str) -> None:
    form = "multipart/form-data; boundary=b"
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nhalf'
    broken = api.post("/v1/files", data=body, content_type=form, headers={"Idempotency-Key": key})
    assert broken.status_code == 400
    assert _upload(api, key, b"whole").status_code == 200


def test_uploads_at_once_make_one_file_and_leave_one_object(api: Api, key: str, wiring: Wiring) -> None:
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: _upload(api, key, b"z" * 100_000), range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert _n_blobs(wiring, api) == 1


def test_an_api_key_is_made_once_and_its_secret_lies_nowhere_readable(admin: Api, key: str, wiring: Wiring) -> None:
    body = {"tenant": f"test-{uuid4().hex}"}
    first, second = (_post(admin, key, "/v1/admin/keys", body) for _ in range(2))
    assert (second.data, second.headers[REPLAYED]) == (first.data, "true")
    assert len(admin.get(f"/v1/admin/keys?tenant={body['tenant']}").json["data"]) == 1
    query = text("SELECT sealed_body FROM idempotency_keys WHERE key = :key")
    with wiring.database.begin() as connection:
        kept = bytes(connection.execute(query, {"key": key}).scalar_one())
    assert first.json["key"].encode() not in kept


def test_an_answer_kept_under_another_server_secret_is_not_shown(
    admin: Api, key: str, wiring: Wiring, make_app: Callable[[Wiring], Flask]
) -> None:
    body = {"tenant": f"test-{uuid4().hex}"}
    _post(admin, key, "/v1/admin/keys", body)
    changed = replace(wiring, settings=replace(wiring.settings, key_pepper="another"))
    later = Api(make_app(changed).test_client(), wiring.settings.admin_key, "admin")
    refused = _post(later, key, "/v1/admin/keys", body)
    assert (refused.status_code, refused.json["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.fixture
def make_app() -> Callable[[Wiring], Flask]:
    """Make the application of another process."""
    return create_app


def test_a_schedule_and_its_run_are_made_once(api: Api, key: str) -> None:
    file_id = api.upload(b'{"custom_id": "a", "body": {"input": "x"}}\n').json["id"]
    job = {"endpoint": "/v1/echo", "model": "echo"}
    body = {"name": "n", "cron": "0 3 * * *", "timezone": "UTC", "job": job, "source": {"file_id": file_id}}
    first, second = (_post(api, key, "/v1/schedules", body) for _ in range(2))
    assert (first.status_code, second.data) == (201, first.data)
    path = f"/v1/schedules/{first.json['id']}/run"
    runs = [api.post(path, headers={"Idempotency-Key": key}) for _ in range(2)]
    assert [run.status_code for run in runs] == [202, 202]
    assert runs[1].data == runs[0].data
    assert len(runs[0].json["job_ids"]) == 1
    assert (len(api.get(f"{path}s").json["data"]), _n_jobs(api)) == (1, 1)


def test_a_path_that_is_no_text_is_not_found(api: Api, key: str) -> None:
    for path in ("/v1/schedules/%00/run", "/v1/schedules/%ff/run"):
        assert api.post(path, headers={"Idempotency-Key": key}).status_code == 404


def test_a_body_is_taken_as_it_was_sent(api: Api, key: str) -> None:
    """The digest is of the bytes: a client that retries sends the same ones."""
    spaced = io.BytesIO(b'{ "endpoint": "/v1/echo", "model": "echo", "input": "hello" }')
    _post(api, key)
    other = api.post("/v1/jobs", data=spaced, content_type="application/json", headers={"Idempotency-Key": key})
    assert other.status_code == 422
