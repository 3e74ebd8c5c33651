"""Files: up, down, list, delete."""

from __future__ import annotations

import dataclasses

import pytest
from flask import Flask
from sqlalchemy import func, select, update
from tenant_api import Api

from app.db.tables import files
from app.factory import create_app
from app.wiring import Wiring

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'


def _objects(wiring: Wiring, api: Api) -> list[str]:
    with wiring.database.begin() as connection:
        rows = connection.execute(select(files.c.tenant_id).where(files.c.id == api.upload(b"x").json["id"]))
        tenant_id = rows.scalar_one()
    return [found.key for found in wiring.storage.list(f"files/{tenant_id}/")]


def test_what_goes_up_comes_down(api: Api) -> None:
    content = LINE * 30_000  # several parts in the object store
    uploaded = api.upload(content, filename="größe.jsonl")
    assert uploaded.status_code == 200
    file = uploaded.json
    assert file["bytes"] == len(content)
    assert (file["object"], file["purpose"], file["status"], file["filename"]) == (
        "file",
        "batch",
        "processed",
        "größe.jsonl",
    )
    assert file["expires_at"] - file["created_at"] == 30 * 86_400
    assert api.get(f"/v1/files/{file['id']}").json == file
    downloaded = api.get(f"/v1/files/{file['id']}/content")
    assert downloaded.headers["Content-Length"] == str(len(content))
    assert downloaded.data == content


def test_an_empty_file_is_a_file(api: Api) -> None:
    file = api.upload(b"").json
    assert file["bytes"] == 0
    assert api.get(f"/v1/files/{file['id']}/content").data == b""


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=10-", 10, 100),
        ("bytes=-5", 95, 100),
        ("bytes=90-500", 90, 100),
        ("bytes=-500", 0, 100),
    ],
)
def test_a_range_is_a_piece(api: Api, asked: str, first: int, end: int) -> None:
    content = bytes(range(100))
    file_id = api.upload(content).json["id"]
    piece = api.get(f"/v1/files/{file_id}/content", headers={"Range": asked})
    assert (piece.status_code, piece.data) == (206, content[first:end])
    assert piece.headers["Content-Range"] == f"bytes {first}-{end - 1}/100"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "nonsense", "lines=1-2", "bytes=5-1"])
def test_a_range_that_makes_no_sense_is_answered_with_everything(api: Api, asked: str) -> None:
    file_id = api.upload(b"0123456789").json["id"]
    whole = api.get(f"/v1/files/{file_id}/content", headers={"Range": asked})
    assert (whole.status_code, whole.data) == (200, b"0123456789")


def test_a_range_outside_is_416_and_tells_the_size(api: Api) -> None:
    file_id = api.upload(b"0123456789").json["id"]
    refused = api.get(f"/v1/files/{file_id}/content", headers={"Range": "bytes=10-"})
    assert refused.status_code == 416
    assert refused.headers["Content-Range"] == "bytes */10"


def test_a_list_is_walked_by_id_in_both_orders(api: Api) -> None:
    ids = [api.upload(b"x").json["id"] for _ in range(5)]
    assert [file["id"] for file in api.get("/v1/files").json["data"]] == ids[::-1]
    page = api.get("/v1/files?limit=2&order=asc").json
    assert ([file["id"] for file in page["data"]], page["has_more"]) == (ids[:2], True)
    assert (page["first_id"], page["last_id"]) == (ids[0], ids[1])
    api.delete(f"/v1/files/{ids[1]}")  # a deleted file still marks its place
    rest = api.get(f"/v1/files?limit=10&order=asc&after={page['last_id']}").json
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == (ids[2:], False)


def test_a_list_is_narrowed_by_purpose(api: Api) -> None:
    api.upload(b"x")
    other_id = api.upload(b"x", filename="notes.txt", purpose="user_data").json["id"]
    assert [file["id"] for file in api.get("/v1/files?purpose=user_data").json["data"]] == [other_id]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=10001", "limit"),
        ("limit=x", "limit"),
        ("order=up", "order"),
        ("after=%00", "after"),
        ("page=2", "page"),
    ],
)
def test_a_wrong_query_is_400(api: Api, query: str, param: str) -> None:
    refused = api.get(f"/v1/files?{query}")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, param)


def test_a_deleted_file_is_gone(api: Api) -> None:
    file_id = api.upload(b"x").json["id"]
    assert api.delete(f"/v1/files/{file_id}").json == {"id": file_id, "object": "file", "deleted": True}
    for response in (
        api.get(f"/v1/files/{file_id}"),
        api.get(f"/v1/files/{file_id}/content"),
        api.delete(f"/v1/files/{file_id}"),
    ):
        assert response.status_code == 404


def test_an_expired_file_is_gone(api: Api, wiring: Wiring) -> None:
    file_id = api.upload(b"x").json["id"]
    with wiring.database.begin() as connection:
        connection.execute(update(files).where(files.c.id == file_id).values(expires_at=func.now()))
    assert api.get(f"/v1/files/{file_id}").status_code == 404
    assert api.get("/v1/files").json["data"] == []


def test_another_tenants_file_does_not_exist(api: Api, other: Api) -> None:
    file_id = api.upload(b"x").json["id"]
    for response in (
        other.get(f"/v1/files/{file_id}"),
        other.get(f"/v1/files/{file_id}/content"),
        other.delete(f"/v1/files/{file_id}"),
        other.get(f"/v1/files?after={file_id}"),
    ):
        assert (response.status_code, response.json["error"]["code"]) == (404, "not_found")
    assert api.get(f"/v1/files/{file_id}").status_code == 200


@pytest.mark.parametrize("file_id", ["file-x", "%00", "..%2f..%2fetc", "x" * 5_000, "%F0%9F%92%A9"])
def test_what_is_no_id_is_404(api: Api, file_id: str) -> None:
    assert api.get(f"/v1/files/{file_id}").status_code == 404


def test_a_life_of_its_own(api: Api) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    file = api.upload(b"x", **fields).json
    assert file["expires_at"] - file["created_at"] == 3600
    for wrong in ({"expires_after[seconds]": "3599"}, {"expires_after[anchor]": "now"}):
        assert api.upload(b"x", **wrong).json["error"]["param"] in wrong


def test_a_file_above_the_limit_is_413_and_leaves_nothing(wiring: Wiring, api: Api) -> None:
    small = dataclasses.replace(wiring.settings, max_file_bytes=1000)
    limited = _with(create_app(dataclasses.replace(wiring, settings=small)), api)
    before = _objects(wiring, api)
    assert limited.upload(b"x" * 1000).status_code == 200
    refused = limited.upload(b"x" * 1001)
    assert (refused.status_code, refused.json["error"]["code"]) == (413, "request_too_large")
    assert refused.json["error"]["param"] == "file"
    assert len(api.get("/v1/files").json["data"]) == 2  # the one that counted the objects, and the one of 1000 bytes
    assert len(_objects(wiring, api)) == len(before) + 2


def test_an_upload_that_breaks_off_leaves_nothing(wiring: Wiring, api: Api) -> None:
    before = _objects(wiring, api)
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    refused = api.post("/v1/files", data=head + b"x" * 5000, content_type="multipart/form-data; boundary=b")
    assert refused.status_code == 400
    assert len(_objects(wiring, api)) == len(before) + 1


def test_a_purpose_that_comes_last_and_is_wrong_leaves_nothing(wiring: Wiring, api: Api) -> None:
    before = _objects(wiring, api)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nxxx'
        b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nnonsense\r\n--b--\r\n'
    )
    refused = api.post("/v1/files", data=body, content_type="multipart/form-data; boundary=b")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "purpose")
    assert len(_objects(wiring, api)) == len(before) + 1


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain"])
def test_an_upload_must_be_a_form(api: Api, content_type: str) -> None:
    refused = api.post("/v1/files", data=b"{}", content_type=content_type)
    assert (refused.status_code, refused.json["error"]["code"]) == (400, "unsupported_content_type")


def test_names_of_files_never_reach_the_object_store(wiring: Wiring, api: Api) -> None:
    assert api.upload(b"x", filename="../../secret.jsonl").status_code == 200
    assert not any("secret" in key for key in _objects(wiring, api))


def _with(app: Flask, api: Api) -> Api:
    return dataclasses.replace(api, client=app.test_client())
