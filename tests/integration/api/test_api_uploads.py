"""Uploads in parts over HTTP, on the real object store."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text
from tenant_api import Api
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from app.errors import ObjectMissing
from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.services.sweep_expired import sweep_expired
from app.services.sweep_orphans import sweep_orphans
from app.wiring import Wiring

PIECES = (b'{"custom_id": "a", "body": {"input": "1"}}\n{"custom', b'_id": "b", "body": {"input": "2"}}\n', b"\n")
WHOLE = b"".join(PIECES)
ANNOUNCED = {"bytes": len(WHOLE), "filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}


@pytest.fixture
def small(wiring: Wiring) -> Wiring:
    """An installation with small parts and files."""
    return replace(wiring, settings=replace(wiring.settings, max_part_bytes=100, max_upload_bytes=1000))


@pytest.fixture
def make_api(small: Wiring) -> Callable[[], Api]:
    """Make a tenant of it with a key."""
    app = create_app(small)

    def make() -> Api:
        issued = create_api_key(wiring=small, tenant=f"test-{uuid4().hex}")
        return Api(app.test_client(), issued.key, issued.key_id)

    return make


def create(api: Api, **changes: Any) -> str:
    return str(api.post("/v1/uploads", json={**ANNOUNCED, **changes}).json["id"])


def add(api: Api, upload: str, content: bytes, *, field: str = "data", **options: Any) -> TestResponse:
    boundary, body = encode_multipart({field: FileStorage(io.BytesIO(content), "part")}, boundary="b")
    form = f"multipart/form-data; boundary={boundary}"
    return api.post(f"/v1/uploads/{upload}/parts", data=body, content_type=form, **options)


def complete(api: Api, upload: str, part_ids: Sequence[str], **fields: Any) -> TestResponse:
    return api.post(f"/v1/uploads/{upload}/complete", json={"part_ids": part_ids, **fields})


def uploaded(api: Api, *pieces: bytes) -> tuple[str, list[str]]:
    upload = create(api)
    return upload, [add(api, upload, piece).json["id"] for piece in pieces or PIECES]


def refusal(answer: TestResponse) -> tuple[int, str, str | None]:
    return answer.status_code, answer.json["error"]["code"], answer.json["error"]["param"]


def test_parts_become_a_file_in_the_order_that_was_asked_for(api: Api, wiring: Wiring) -> None:
    upload, (third, first, second) = uploaded(api, PIECES[2], PIECES[0], PIECES[1])
    answer = complete(
        api, upload, [first, second, third], md5=hashlib.md5(WHOLE, usedforsecurity=False).hexdigest()
    ).json
    assert (answer["object"], answer["status"], answer["id"]) == ("upload", "completed", upload)
    file = answer["file"]
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(WHOLE), "big.jsonl", "batch")
    assert api.get(f"/v1/files/{file['id']}/content").data == WHOLE
    with wiring.database.begin() as connection:
        row = connection.execute(text("SELECT n_lines, sha256 FROM files WHERE id = :id"), {"id": file["id"]}).one()
    assert tuple(row) == (2, hashlib.sha256(WHOLE).hexdigest())


def test_an_upload_is_shown_as_it_was_announced(api: Api) -> None:
    made = api.post("/v1/uploads", json=ANNOUNCED).json
    assert (made["status"], made["bytes"], made["file"]) == ("pending", len(WHOLE), None)
    assert made["expires_at"] - made["created_at"] == 3600
    part = add(api, made["id"], b"x").json
    assert (part["object"], part["upload_id"]) == ("upload.part", made["id"])


def test_a_part_that_was_sent_twice_may_be_left_out(api: Api) -> None:
    upload, (first, _again, second, third) = uploaded(api, PIECES[0], PIECES[0], *PIECES[1:])
    assert complete(api, upload, [first, second, third]).status_code == 200


def test_completing_again_gives_the_same_file(api: Api) -> None:
    upload, parts = uploaded(api)
    first, again = (complete(api, upload, parts).json for _ in range(2))
    assert first == again
    assert len(api.get("/v1/files").json["data"]) == 1
    assert refusal(complete(api, upload, parts[::-1]))[:2] == (409, "state_conflict")


def test_completing_twice_at_once_makes_one_file(api: Api) -> None:
    upload, parts = uploaded(api)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: complete(api, upload, parts), range(4)))
    assert {answer.json["file"]["id"] for answer in answers} == {answers[0].json["file"]["id"]}
    assert len(api.get("/v1/files").json["data"]) == 1


@pytest.mark.parametrize(
    ("choose", "fields", "refused"),
    [
        (lambda parts: parts[:2], {}, (400, "bytes_mismatch", "part_ids")),
        (lambda parts: [*parts, parts[0]], {}, (400, "invalid_value", "part_ids")),
        (lambda parts: [*parts, "part_none"], {}, (400, "invalid_value", "part_ids")),
        (lambda _: [], {}, (400, "invalid_value", "part_ids")),
        (lambda parts: parts, {"md5": "0" * 32}, (400, "invalid_value", "md5")),
        (lambda parts: parts, {"md5": "x"}, (400, "invalid_value", "md5")),
        (lambda parts: parts, {"order": 1}, (400, "unknown_parameter", "order")),
    ],
    ids=["one is missing", "one twice", "one of nobody", "none", "another md5", "no md5", "a field too many"],
)
def test_what_does_not_fit_together_makes_no_file(
    api: Api, choose: Callable[[list[str]], list[str]], fields: dict[str, Any], refused: tuple[int, str, str]
) -> None:
    upload, parts = uploaded(api)
    assert refusal(complete(api, upload, choose(parts), **fields)) == refused
    assert api.get("/v1/files").json["data"] == []
    assert complete(api, upload, parts).status_code == 200


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"bytes": 1001}, (413, "request_too_large", "bytes")),
        ({"bytes": 0}, (400, "invalid_value", "bytes")),
        ({"bytes": "5"}, (400, "invalid_value", "bytes")),
        ({"filename": "big.txt"}, (400, "invalid_value", "filename")),
        ({"purpose": "nothing"}, (400, "invalid_value", "purpose")),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, (400, "invalid_value", "expires_after.seconds")),
    ],
)
def test_what_cannot_become_a_file_is_refused_at_once(
    api: Api, changes: dict[str, Any], refused: tuple[int, str, str]
) -> None:
    assert refusal(api.post("/v1/uploads", json={**ANNOUNCED, **changes})) == refused


def test_a_part_has_its_own_limit_and_all_of_them_another(api: Api) -> None:
    upload = create(api, bytes=90)
    assert refusal(add(api, upload, b"x" * 101)) == (413, "request_too_large", "data")
    assert add(api, upload, b"x" * 90).status_code == 200
    assert refusal(add(api, upload, b"x" * 91)) == (413, "request_too_large", "data")


def test_a_part_comes_in_its_field(api: Api) -> None:
    assert refusal(add(api, create(api), b"x", field="file")) == (400, "unknown_parameter", "file")
    answer = api.post(f"/v1/uploads/{create(api)}/parts", json={})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "Content-Type")


@pytest.mark.parametrize("verb", ["parts", "complete", "cancel"])
def test_an_upload_of_nobody_and_of_somebody_else_is_not_found(api: Api, other: Api, verb: str) -> None:
    upload, parts = uploaded(api)
    for tenant, named in ((other, upload), (api, "upload_none")):
        if verb == "parts":
            answer = add(tenant, named, b"x")
        elif verb == "complete":
            answer = complete(tenant, named, parts)
        else:
            answer = tenant.post(f"/v1/uploads/{named}/cancel")
        assert answer.status_code == 404


def test_a_cancelled_upload_takes_nothing_more(api: Api) -> None:
    upload, parts = uploaded(api)
    answers = [api.post(f"/v1/uploads/{upload}/cancel") for _ in range(2)]
    assert [answer.json["status"] for answer in answers] == ["cancelled", "cancelled"]
    assert refusal(add(api, upload, b"x"))[:2] == (409, "state_conflict")
    assert refusal(complete(api, upload, parts))[:2] == (409, "state_conflict")


def test_an_upload_that_was_not_completed_in_time_is_expired(api: Api, wiring: Wiring) -> None:
    upload, parts = uploaded(api)
    _sql(wiring, "UPDATE uploads SET expires_at = now() WHERE id = :id", upload)
    for answer in (add(api, upload, b"x"), complete(api, upload, parts), api.post(f"/v1/uploads/{upload}/cancel")):
        assert refusal(answer)[:2] == (409, "state_conflict")
        assert "expired" in answer.json["error"]["message"]


def test_the_same_part_again_is_the_same_part(api: Api) -> None:
    upload, headers = create(api), {"Idempotency-Key": uuid4().hex}
    first, again = (add(api, upload, PIECES[0], headers=headers) for _ in range(2))
    assert (first.data, again.headers["idempotent-replayed"]) == (again.data, "true")
    assert add(api, upload, b"other", headers=headers).status_code == 422


def test_parts_are_swept_when_their_upload_is_over(api: Api, small: Wiring) -> None:
    upload, parts = uploaded(api)
    keys = _keys(small, upload)
    eager = replace(small, settings=replace(small.settings, orphan_age_s=-60))
    sweep_orphans(wiring=eager)
    sweep_expired(wiring=small)
    assert complete(api, upload, parts).status_code == 200
    _sql(small, "UPDATE uploads SET expires_at = now() - interval '2 days' WHERE id = :id", upload)
    sweep_expired(wiring=small)
    for key in keys:
        with pytest.raises(ObjectMissing), small.storage.open(key):
            pass
    assert api.get("/v1/files").json["data"][0]["bytes"] == len(WHOLE)


def test_completing_holds_no_more_than_a_piece_in_memory(wiring: Wiring) -> None:
    large = replace(wiring, settings=replace(wiring.settings, max_part_bytes=2**26))
    issued = create_api_key(wiring=large, tenant=f"test-{uuid4().hex}")
    client = Api(create_app(large).test_client(), issued.key, issued.key_id)
    upload = create(client, bytes=3 * 2**25)
    parts = [add(client, upload, b"\n" * 2**25).json["id"] for _ in range(3)]
    tracemalloc.start()
    assert complete(client, upload, parts).status_code == 200
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 48 * 2**20


def _sql(wiring: Wiring, statement: str, upload: str) -> None:
    with wiring.database.begin() as connection:
        connection.execute(text(statement), {"id": upload})


def _keys(wiring: Wiring, upload: str) -> list[str]:
    with wiring.database.begin() as connection:
        found = connection.execute(text("SELECT object_key FROM upload_parts WHERE upload_id = :id"), {"id": upload})
        return list(found.scalars())
