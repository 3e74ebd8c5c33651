"""Tenants and their quotas, as the administrator sees and sets them."""

from __future__ import annotations

import dataclasses
from uuid import uuid4

import pytest
import structlog
from tenant_api import Api

from app.domain.tenants import QUOTA_FIELDS
from app.services.create_api_key import create_api_key
from app.services.tenant_quotas import default_quota
from app.wiring import Wiring

ROUTE = "/v1/admin/tenants"
LINE = b'{"custom_id": "a", "body": {"input": "hello"}}\n'


@pytest.fixture
def name(wiring: Wiring) -> str:
    """A tenant that nobody else uses."""
    return create_api_key(wiring=wiring, tenant=f"test-{uuid4().hex}").tenant


def _patch(admin: Api, name: str, body: object) -> tuple[int, dict[str, object]]:
    answer = admin.call("PATCH", f"{ROUTE}/{name}", json=body)
    return answer.status_code, answer.json


def test_a_tenant_begins_with_the_installations_defaults(admin: Api, name: str, wiring: Wiring) -> None:
    shown = admin.get(f"{ROUTE}/{name}").json
    assert shown["name"] == name
    assert shown["limits"] == dict.fromkeys(QUOTA_FIELDS)
    assert shown["quota"] == dataclasses.asdict(default_quota(wiring.settings))
    assert shown["use"] == {"running_jobs": 0, "live_chunks": 0, "enqueued_tokens": 0, "stored_bytes": 0}


def test_limits_are_set_left_and_taken_back_one_by_one(admin: Api, name: str) -> None:
    default = admin.get(f"{ROUTE}/{name}").json["quota"]
    status, tenant = _patch(admin, name, {"weight": 2.5, "max_chunks": 3, "budget": 99.5})
    assert status == 200
    assert tenant["quota"] == {**default, "weight": 2.5, "max_chunks": 3, "budget": 99.5}
    _, tenant = _patch(admin, name, {"weight": None, "retention_s": 86_400})
    assert tenant["limits"] == {
        **dict.fromkeys(QUOTA_FIELDS),
        "max_chunks": 3,
        "budget": 99.5,
        "retention_s": 86_400,
    }
    assert tenant["quota"]["weight"] == default["weight"]
    assert admin.get(f"{ROUTE}/{name}").json == tenant
    assert _patch(admin, name, {}) == (200, tenant)


@pytest.mark.parametrize("field", QUOTA_FIELDS)
@pytest.mark.parametrize("value", [0, -1, -0.5, 1e300, 10**18 * 7, "5", "", True, False, [], {}, "NaN"])
def test_nonsense_is_refused_with_the_field_at_fault(admin: Api, name: str, field: str, value: object) -> None:
    status, body = _patch(admin, name, {"max_chunks": 7, field: value})
    assert (status, body["error"]["param"]) == (400, field)
    assert admin.get(f"{ROUTE}/{name}").json["limits"] == dict.fromkeys(QUOTA_FIELDS)


@pytest.mark.parametrize("body", [b'{"weight": NaN}', b'{"weight": Infinity}', b'{"weight": 1e999}', b"", b"[]"])
def test_what_is_no_json_object_is_refused(admin: Api, name: str, body: bytes) -> None:
    refused = admin.call("PATCH", f"{ROUTE}/{name}", data=body, content_type="application/json")
    assert refused.status_code == 400


def test_a_field_that_is_no_limit_is_refused(admin: Api, name: str) -> None:
    status, body = _patch(admin, name, {"name": "other"})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "unknown_parameter", "name")


@pytest.mark.parametrize("unknown", ["nobody", "%00", "x" * 300, "a%20b", "%F0%9F%8C%99", "tenant_0"])
def test_a_tenant_that_is_not_there_is_404(admin: Api, unknown: str) -> None:
    assert admin.get(f"{ROUTE}/{unknown}").status_code == 404
    status, body = _patch(admin, unknown, {"weight": 2})
    assert (status, body["error"]["code"]) == (404, "not_found")


def test_tenants_are_listed_by_name_page_by_page(admin: Api, wiring: Wiring) -> None:
    prefix = f"zz-{uuid4().hex}"
    names = [create_api_key(wiring=wiring, tenant=f"{prefix}-{place}").tenant for place in range(3)]
    first = admin.get(f"{ROUTE}?limit=2&after={prefix}").json
    assert [tenant["name"] for tenant in first["data"]] == names[:2]
    assert first["has_more"]
    second = admin.get(f"{ROUTE}?limit=1&after={names[1]}").json
    assert [tenant["name"] for tenant in second["data"]] == names[2:]


def test_what_a_tenant_stores_is_shown(admin: Api, api: Api) -> None:
    (name,) = {key["tenant"] for key in admin.get("/v1/admin/keys").json["data"] if key["key_id"] == api.key_id}
    file = api.upload(LINE).json
    job = {"endpoint": "/v1/echo", "model": "echo"}
    assert api.post("/v1/jobs", json={**job, "input_file_id": file["id"]}).status_code == 202
    assert admin.get(f"{ROUTE}/{name}").json["use"]["stored_bytes"] == len(LINE)
    assert api.post("/v1/jobs", json={**job, "inputs": ["a"]}).status_code == 202
    stored = admin.get(f"{ROUTE}/{name}").json["use"]["stored_bytes"]
    assert stored > len(LINE)
    assert api.delete(f"/v1/files/{file['id']}").status_code == 200
    assert admin.get(f"{ROUTE}/{name}").json["use"]["stored_bytes"] == stored - len(LINE)


def test_a_change_is_in_the_log_with_both_values(admin: Api, name: str) -> None:
    with structlog.testing.capture_logs() as logs:
        _patch(admin, name, {"weight": 3, "max_chunks": None})
    (line,) = [line for line in logs if line["event"] == "tenant_changed"]
    assert (line["tenant"], line["by"]) == (name, "administrator")
    assert line["limits"] == {"weight": (None, 3.0)}


def test_a_tenant_may_neither_see_nor_raise_quotas(api: Api, name: str) -> None:
    assert api.get(ROUTE).status_code == 401
    assert api.get(f"{ROUTE}/{name}").status_code == 401
    assert api.call("PATCH", f"{ROUTE}/{name}", json={"weight": 9}).status_code == 401
