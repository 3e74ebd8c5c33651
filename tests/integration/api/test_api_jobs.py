"""Jobs and batches: submit, show, list, pause, resume, cancel."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tenant_api import Api

from app.factory import create_app
from app.wiring import Wiring

ECHO = {"endpoint": "/v1/echo", "model": "echo"}
BATCH = {"input_file_id": "file-none", "endpoint": "/v1/echo", "completion_window": "24h"}
LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'


def _job(api: Api, **fields: Any) -> dict[str, Any]:
    response = api.post("/v1/jobs", json={**ECHO, "inputs": ["a", "b"], **fields})
    assert response.status_code == 202, response.text
    found: dict[str, Any] = response.json
    return found


def _batch(api: Api, **fields: Any) -> dict[str, Any]:
    file_id = api.upload(LINE).json["id"]
    body = {"input_file_id": file_id, "endpoint": "/v1/echo", "completion_window": "24h", **fields}
    response = api.post("/v1/batches", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json
    return found


def test_a_job_is_accepted_and_shown(api: Api) -> None:
    response = api.post("/v1/jobs", json={**ECHO, "inputs": ["a"], "priority": "urgent", "metadata": {"team": "x"}})
    job = response.json
    assert (response.status_code, response.headers["Location"]) == (202, f"/v1/jobs/{job['id']}")
    assert (job["object"], job["priority"], job["metadata"]) == ("job", "urgent", {"team": "x"})
    shown = api.get(response.headers["Location"]).json
    counts = shown["counts"]
    assert counts["total"] == sum(value for name, value in counts.items() if name != "total")
    assert set(job) == set(shown) >= {"id", "state", "phase", "counts", "usage", "cost", "errors", "links", "eta"}
    assert shown["links"]["self"] == response.headers["Location"]


def test_either_dialects_id_finds_the_job(api: Api) -> None:
    job, batch = _job(api), _batch(api)
    suffix, batch_suffix = job["id"].removeprefix("job_"), batch["id"].removeprefix("batch_")
    assert api.get(f"/v1/jobs/batch_{suffix}").json["id"] == job["id"]
    assert api.get(f"/v1/batches/{job['id']}").json["id"] == f"batch_{suffix}"
    assert api.get(f"/v1/jobs/{batch['id']}").json["id"] == f"job_{batch_suffix}"


def test_a_job_is_paused_and_resumed(api: Api) -> None:
    job, batch = _job(api), _batch(api)
    for found in (job["id"], batch["id"]):
        for _ in range(2):
            paused = api.post(f"/v1/jobs/{found}/pause")
            assert (paused.status_code, paused.json["state"], paused.json["phase"]) == (200, "paused", "paused")
            assert paused.json["waiting"]["reason"] == "paused"
        assert api.get(f"/v1/batches/{found}").json["status"] == "in_progress"
        for _ in range(2):
            resumed = api.post(f"/v1/jobs/{found}/resume")
            assert (resumed.status_code, resumed.json["state"], resumed.json["waiting"]) == (200, "validating", None)


def test_a_batch_is_accepted_with_native_fields(api: Api) -> None:
    batch = _batch(api, metadata={"k": "v"}, nightshift={"priority": "background", "max_attempts": 2})
    assert batch["object"] == "batch"
    assert batch["metadata"] == {"k": "v"}
    assert batch["expires_at"] - batch["created_at"] == 86_400
    assert api.get(f"/v1/jobs/{batch['id']}").json["priority"] == "background"


def test_what_stands_under_nightshift_takes_the_place_of_the_batchs_own(api: Api) -> None:
    native = {"completion_window": "2h", "metadata": {"k": "native"}, "output_expires_after": 7200}
    own = {"metadata": {"k": "own"}, "output_expires_after": {"anchor": "created_at", "seconds": 3600}}
    batch = _batch(api, **own, nightshift=native)
    assert (batch["completion_window"], batch["metadata"]) == ("2h", {"k": "native"})
    assert batch["expires_at"] - batch["created_at"] == 7200
    for wrong, param in (({"endpoint": "/v1/echo"}, "endpoint"), ({"output_expires_after": 1}, "output_expires_after")):
        refused = api.post("/v1/batches", json={**BATCH, "nightshift": wrong})
        assert (refused.status_code, refused.json["error"]["param"]) == (400, f"nightshift.{param}")


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"endpoint": "/v1/nope"}, "invalid_value", "endpoint"),
        ({"completion_window": "1y"}, "invalid_value", "completion_window"),
        ({"completion_window": "8d"}, "invalid_value", "completion_window"),
        ({"model": "nope"}, "model_not_found", "model"),
        ({"model": "all-MiniLM-L6-v2"}, "invalid_value", "model"),
        ({"inputs": [1]}, "invalid_value", "inputs[0]"),
        ({"x": 1}, "unknown_parameter", "x"),
    ],
)
def test_a_wrong_job_is_refused_at_once(api: Api, change: dict[str, Any], code: str, param: str) -> None:
    refused = api.post("/v1/jobs", json={**ECHO, "inputs": ["a"], **change})
    error = refused.json["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, code, param)
    assert api.get("/v1/jobs").json["data"] == []


def test_a_batch_needs_a_file_of_its_tenant_and_purpose(api: Api, other: Api) -> None:
    foreign = other.upload(LINE).json["id"]
    notes = api.upload(b"x", filename="notes.txt", purpose="user_data").json["id"]
    for file_id in (foreign, notes, "file-x", "", "x" * 10_000):
        body = {"input_file_id": file_id, "endpoint": "/v1/echo", "completion_window": "24h"}
        refused = api.post("/v1/batches", json=body)
        assert (refused.status_code, refused.json["error"]["param"]) == (400, "input_file_id")


@pytest.mark.parametrize(
    ("body", "content_type", "code"),
    [
        (b"{", "application/json", "invalid_json"),
        (b"", "application/json", "invalid_json"),
        (b'{"a": NaN}', "application/json", "invalid_json"),
        (b"[" * 100_000, "application/json", "invalid_json"),
        (b'{"input": "\\ud800"}', "application/json", "invalid_json"),
        (b"\xff\xfe", "application/json", "invalid_json"),
        (b"[]", "application/json", "invalid_value"),
        (b"null", "application/json", "invalid_value"),
        (b"{}", "text/plain", "unsupported_content_type"),
        (b"a=1", "application/x-www-form-urlencoded", "unsupported_content_type"),
    ],
)
def test_a_body_that_is_no_json_object_is_400(api: Api, body: bytes, content_type: str, code: str) -> None:
    refused = api.post("/v1/jobs", data=body, content_type=content_type)
    assert (refused.status_code, refused.json["error"]["code"]) == (400, code)


def test_a_compressed_body_is_refused_and_not_unpacked(api: Api) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert api.post("/v1/jobs", data=b"\x1f\x8b", content_type="application/json", headers=headers).status_code == 400


def test_a_body_above_the_limit_is_413(wiring: Wiring, api: Api) -> None:
    small = dataclasses.replace(wiring.settings, max_inline_bytes=1000)
    app = create_app(dataclasses.replace(wiring, settings=small))
    limited = dataclasses.replace(api, client=app.test_client())
    refused = limited.post("/v1/jobs", json={**ECHO, "inputs": ["x" * 1000]})
    assert (refused.status_code, refused.json["error"]["code"]) == (413, "request_too_large")
    assert limited.post("/v1/jobs", json={**ECHO, "inputs": ["x"]}).status_code == 202


def test_more_items_than_a_request_may_hold_are_413(wiring: Wiring, api: Api) -> None:
    small = dataclasses.replace(wiring.settings, max_inline_items=3)
    app = create_app(dataclasses.replace(wiring, settings=small))
    limited = dataclasses.replace(api, client=app.test_client())
    refused = limited.post("/v1/jobs", json={**ECHO, "inputs": ["x"] * 4})
    assert (refused.status_code, refused.json["error"]["param"]) == (413, "inputs")


def test_a_zero_character_in_a_text_is_no_reason_to_refuse(api: Api) -> None:
    assert _job(api, inputs=["a\0b"])["counts"]["total"] == 1


def test_a_list_is_walked_by_id_and_narrowed(api: Api) -> None:
    ids = [_job(api, metadata={"n": str(n)})["id"] for n in range(4)]
    batch = _batch(api)
    page = api.get("/v1/jobs?limit=3").json
    assert [job["id"] for job in page["data"]] == ["job_" + batch["id"].removeprefix("batch_"), ids[3], ids[2]]
    assert page["has_more"] is True
    rest = api.get(f"/v1/jobs?limit=3&after={page['last_id']}").json
    assert ([job["id"] for job in rest["data"]], rest["has_more"]) == ([ids[1], ids[0]], False)
    assert [job["id"] for job in api.get("/v1/jobs?metadata[n]=2").json["data"]] == [ids[2]]
    assert api.get("/v1/jobs?endpoint=/v1/embeddings").json["data"] == []
    assert len(api.get("/v1/jobs?model=echo&created_after=2026-01-01T00:00:00Z").json["data"]) >= 4
    assert api.get("/v1/jobs?created_before=2026-01-01T00:00:00Z").json["data"] == []
    assert [found["id"] for found in api.get("/v1/batches").json["data"]] == [batch["id"]]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=101", "limit"),
        ("state=done", "state"),
        ("created_after=yesterday", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("metadata[a]=%00", "metadata.a"),
        ("metadata=1", "metadata"),
        ("sort=up", "sort"),
    ],
)
def test_a_wrong_query_is_400(api: Api, query: str, param: str) -> None:
    refused = api.get(f"/v1/jobs?{query}")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, param)


def test_another_tenants_job_does_not_exist(api: Api, other: Api) -> None:
    job_id = _job(api)["id"]
    for method, path in (
        ("GET", f"/v1/jobs/{job_id}"),
        ("POST", f"/v1/jobs/{job_id}/cancel"),
        ("POST", f"/v1/jobs/{job_id}/pause"),
        ("POST", f"/v1/jobs/{job_id}/resume"),
        ("GET", f"/v1/jobs/{job_id}/results"),
        ("GET", f"/v1/jobs/{job_id}/results/a"),
        ("GET", f"/v1/jobs/{job_id}/manifest"),
        ("GET", f"/v1/jobs?after={job_id}"),
        ("GET", f"/v1/batches/{job_id}"),
        ("POST", f"/v1/batches/{job_id}/cancel"),
        ("GET", f"/v1/batches?after={job_id}"),
    ):
        response = other.call(method, path)
        assert (response.status_code, response.json["error"]["code"]) == (404, "not_found"), path
    assert other.get("/v1/jobs").json["data"] == []


@pytest.mark.parametrize("job_id", ["nope", "job_", "%00", "job_" + "g" * 32, "x" * 5_000])
def test_what_is_no_id_is_404(api: Api, job_id: str) -> None:
    assert api.get(f"/v1/jobs/{job_id}").status_code == 404
    assert api.get(f"/v1/batches/{job_id}").status_code == 404


def test_an_unknown_route_and_a_wrong_method_are_json(api: Api) -> None:
    assert api.get("/v1/nope").json["error"]["code"] == "not_found"
    wrong = api.delete("/v1/jobs")
    assert (wrong.status_code, wrong.json["error"]["code"]) == (405, "method_not_allowed")
    assert "POST" in wrong.headers["Allow"]


def test_a_bug_is_a_500_that_tells_nothing(wiring: Wiring, api: Api) -> None:
    broken = dataclasses.replace(wiring, database=None)  # type: ignore[arg-type]
    app = create_app(broken)
    response = app.test_client().get("/v1/jobs", headers={"X-Api-Key": api.key})
    assert (response.status_code, response.json["error"]["code"]) == (500, "internal")
    assert response.headers["x-request-id"] in response.json["error"]["message"]
    assert "NoneType" not in response.text
