"""Who may use the API."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from sqlalchemy import select, update
from tenant_api import Api

from app.db.tables import api_keys
from app.services.authenticate import REMEMBERED_S
from app.wiring import Wiring


def test_a_key_works_in_both_headers(api: Api) -> None:
    assert api.get("/v1/models").status_code == 200
    assert api.client.get("/v1/models", headers={"X-Api-Key": api.key}).status_code == 200
    assert api.client.get("/v1/models", headers={"Authorization": f"bearer {api.key}"}).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic abc"},
        {"X-Api-Key": "nonsense"},
        {"X-Api-Key": "ns_0123456789abcdef_" + "0" * 64},
        {"Authorization": "Bearer \xff\xfe"},
        {"X-Api-Key": "x" * 100_000},
    ],
)
def test_anything_else_is_401(api: Api, header: dict[str, str]) -> None:
    response = api.client.get("/v1/models", headers=header)
    assert response.status_code == 401
    assert response.json["error"]["code"] == "invalid_api_key"
    assert response.json["error"]["request_id"] == response.headers["x-request-id"]


def test_a_key_with_one_wrong_digit_is_401(api: Api) -> None:
    wrong = api.key[:-1] + ("0" if api.key[-1] != "0" else "1")
    assert api.client.get("/v1/models", headers={"X-Api-Key": wrong}).status_code == 401


def test_only_a_hash_of_the_key_is_stored(api: Api, wiring: Wiring) -> None:
    with wiring.database.begin() as connection:
        row = connection.execute(select(api_keys).where(api_keys.c.id == api.key_id)).mappings().one()
    assert len(row["hash"]) == 32
    assert api.key.rpartition("_")[2] not in str(dict(row))


def test_the_administrator_makes_lists_and_revokes_keys(admin: Api) -> None:
    tenant = f"test-{uuid4().hex}"
    made = admin.post("/v1/admin/keys", json={"tenant": tenant})
    assert made.status_code == 201
    assert set(made.json) == {"key", "key_id", "tenant"}
    again = admin.post("/v1/admin/keys", json={"tenant": tenant, "name": "second"})
    listed = admin.get(f"/v1/admin/keys?tenant={tenant}").json["data"]
    assert [key["key_id"] for key in listed] == [again.json["key_id"], made.json["key_id"]]
    assert made.json["key"] not in str(listed)
    key = {"X-Api-Key": made.json["key"]}
    assert admin.client.get("/v1/models", headers=key).status_code == 200
    assert admin.delete(f"/v1/admin/keys/{made.json['key_id']}").json == {
        "key_id": made.json["key_id"],
        "revoked": True,
    }
    time.sleep(REMEMBERED_S)
    assert admin.client.get("/v1/models", headers=key).status_code == 401
    assert admin.client.get("/v1/models", headers={"X-Api-Key": again.json["key"]}).status_code == 200


def test_a_key_that_is_not_there_cannot_be_revoked(admin: Api) -> None:
    assert admin.delete("/v1/admin/keys/nope").status_code == 404
    assert admin.delete("/v1/admin/keys/%00").status_code == 404


def test_a_tenant_is_no_administrator_and_the_administrator_no_tenant(api: Api, admin: Api) -> None:
    assert api.get("/v1/admin/keys").status_code == 401
    assert admin.get("/v1/models").status_code == 401


@pytest.mark.parametrize("tenant", ["", "a b", "a/b", "x" * 65, "\0", "-a", "a\n", None, 1])
def test_a_tenants_name_is_plain(admin: Api, tenant: object) -> None:
    refused = admin.post("/v1/admin/keys", json={"tenant": tenant})
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "tenant")


def test_use_is_noted_at_most_once_a_minute(api: Api, wiring: Wiring) -> None:
    api.get("/v1/models")
    with wiring.database.begin() as connection:
        used = select(api_keys.c.last_used_at).where(api_keys.c.id == api.key_id)
        first = connection.execute(used).scalar_one()
    assert first is not None
    time.sleep(REMEMBERED_S)
    api.get("/v1/models")
    with wiring.database.begin() as connection:
        assert connection.execute(used).scalar_one() == first


def test_an_expired_key_is_401(api: Api, wiring: Wiring) -> None:
    with wiring.database.begin() as connection:
        connection.execute(update(api_keys).where(api_keys.c.id == api.key_id).values(expires_at=api_keys.c.created_at))
    assert api.get("/v1/models").status_code == 401
