"""Past its storage quota a tenant is refused what would store more, and is told what to do."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from flask import Flask
from tenant_api import Api

from app.wiring import Wiring

LINE = b'{"custom_id": "a", "body": {"input": "hello"}}\n'
JOB = {"endpoint": "/v1/echo", "model": "echo"}
ROUTE = "/v1/admin/tenants"


@pytest.fixture
def limit_storage(api: Api, admin: Api) -> Callable[[int | None], int]:
    """Set what ``api`` may store; gives what it stores now."""
    (name,) = [key["tenant"] for key in admin.get("/v1/admin/keys").json["data"] if key["key_id"] == api.key_id]

    def limit(n_bytes: int | None) -> int:
        tenant = admin.call("PATCH", f"{ROUTE}/{name}", json={"max_storage_bytes": n_bytes}).json
        return int(tenant["use"]["stored_bytes"])

    return limit


def _n_objects(wiring: Wiring, file: dict[str, object]) -> int:
    with wiring.database.begin() as connection:
        query = "SELECT tenant_id FROM files WHERE id = %(id)s"
        (tenant_id,) = connection.exec_driver_sql(query, {"id": file["id"]}).one()
    return sum(len(list(wiring.storage.list(f"{prefix}/{tenant_id}/"))) for prefix in ("files", "inputs"))


def test_uploads_and_jobs_past_the_quota_are_refused_and_leave_nothing(
    api: Api, limit_storage: Callable[[int | None], int], wiring: Wiring
) -> None:
    file = api.upload(LINE).json
    assert limit_storage(len(LINE)) == len(LINE)
    refusals = [
        api.upload(LINE),
        api.post("/v1/jobs", json={**JOB, "inputs": ["a"]}),
        api.post("/v1/jobs", json={**JOB, "input_file_id": file["id"]}),
        api.post(
            "/v1/batches",
            json={"input_file_id": file["id"], "endpoint": "/v1/echo", "completion_window": "24h"},
        ),
    ]
    for refused in refusals:
        error = refused.json["error"]
        assert (refused.status_code, error["code"]) == (403, "storage_quota_exceeded"), refused.text
        assert (error["type"], error["retryable"]) == ("insufficient_quota", False)
        assert f"stores {len(LINE)} of {len(LINE)} bytes" in error["message"]
        assert "DELETE /v1/files/" in error["message"]
    assert _n_objects(wiring, file) == 1
    assert limit_storage(None) == len(LINE)


def test_one_that_does_not_fit_any_more_is_refused_after_its_arrival(
    api: Api, limit_storage: Callable[[int | None], int], wiring: Wiring
) -> None:
    file = api.upload(LINE).json
    limit_storage(len(LINE) + 10)
    assert api.upload(LINE).status_code == 403
    assert api.post("/v1/jobs", json={**JOB, "inputs": ["a" * 1000]}).status_code == 403
    assert _n_objects(wiring, file) == 1
    assert limit_storage(None) == len(LINE)


def test_a_file_in_parts_that_cannot_fit_is_refused_when_it_is_announced(
    api: Api, limit_storage: Callable[[int | None], int]
) -> None:
    limit_storage(1000)
    announced = {"filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "batch"}
    refused = api.post("/v1/uploads", json={**announced, "bytes": 1001})
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "storage_quota_exceeded")
    assert api.post("/v1/uploads", json={**announced, "bytes": 1000}).status_code == 200


def test_what_open_uploads_will_bring_has_its_room_until_they_are_given_up(
    api: Api, limit_storage: Callable[[int | None], int]
) -> None:
    limit_storage(1000)
    announced = {"filename": "big.jsonl", "mime_type": "application/jsonl", "purpose": "batch", "bytes": 600}
    first = api.post("/v1/uploads", json=announced).json
    assert api.post("/v1/uploads", json=announced).status_code == 403
    assert api.post(f"/v1/uploads/{first['id']}/cancel").status_code == 200
    assert api.post("/v1/uploads", json=announced).status_code == 200


def test_deleting_makes_room_at_once(api: Api, limit_storage: Callable[[int | None], int]) -> None:
    file = api.upload(LINE).json
    limit_storage(len(LINE))
    assert api.upload(LINE).status_code == 403
    assert api.delete(f"/v1/files/{file['id']}").status_code == 200
    assert api.upload(LINE).status_code == 200


def test_reading_and_deleting_go_on_past_the_quota(api: Api, limit_storage: Callable[[int | None], int]) -> None:
    file = api.upload(LINE).json
    limit_storage(1)
    assert api.get(f"/v1/files/{file['id']}/content").data == LINE
    assert api.get("/v1/jobs").status_code == 200
    assert api.delete(f"/v1/files/{file['id']}").status_code == 200


def test_what_was_answered_before_is_answered_again_past_the_quota(
    api: Api, limit_storage: Callable[[int | None], int]
) -> None:
    key = {"Idempotency-Key": "once"}
    first = api.post("/v1/jobs", json={**JOB, "inputs": ["a"]}, headers=key)
    limit_storage(1)
    again = api.post("/v1/jobs", json={**JOB, "inputs": ["a"]}, headers=key)
    assert (again.status_code, again.data) == (202, first.data)


def test_uploads_at_once_do_not_pass_the_quota_together(
    api: Api, app: Flask, limit_storage: Callable[[int | None], int]
) -> None:
    limit_storage(3 * len(LINE))
    statuses: list[int] = []

    def upload() -> None:
        statuses.append(Api(app.test_client(), api.key, api.key_id).upload(LINE).status_code)

    threads = [threading.Thread(target=upload) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] * 3 + [403] * 5
    assert limit_storage(None) == 3 * len(LINE)


def test_a_file_lives_no_longer_than_the_tenants_retention(api: Api, admin: Api) -> None:
    (name,) = [key["tenant"] for key in admin.get("/v1/admin/keys").json["data"] if key["key_id"] == api.key_id]
    admin.call("PATCH", f"{ROUTE}/{name}", json={"retention_s": 7200})
    longest = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592000"}
    for options in ({}, longest):
        file = api.upload(LINE, **options).json
        assert file["expires_at"] - file["created_at"] in {7200, 7201}
