"""What every route answers to methods that are asked of it by the way, and what every answer carries."""

from __future__ import annotations

import pytest
from tenant_api import Api

PAGES = ["/v1/jobs", "/v1/batches", "/v1/files", "/v1/groups", "/v1/schedules", "/v1/models", "/v1/models/echo"]
LIMITS = {"x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"}


@pytest.mark.parametrize("path", PAGES)
def test_head_tells_what_get_would_without_the_body(api: Api, path: str) -> None:
    shown, told = api.get(path), api.call("HEAD", path)
    assert (told.status_code, told.mimetype, told.data) == (shown.status_code, shown.mimetype, b"")
    assert told.headers["Content-Length"] == shown.headers["Content-Length"]
    assert api.call("HEAD", f"{path}/nothing").status_code == 404


def test_head_of_a_files_content_tells_its_length(api: Api) -> None:
    file = api.upload(b"0123456789").json["id"]
    told = api.call("HEAD", f"/v1/files/{file}/content")
    assert (told.status_code, told.headers["Content-Length"], told.data) == (200, "10", b"")


@pytest.mark.parametrize("path", PAGES)
def test_a_method_that_a_route_does_not_take_is_refused_with_those_it_takes(api: Api, path: str) -> None:
    for method in ("PUT", "TRACE", "PROPFIND", "ANYTHING"):
        refused = api.call(method, path)
        assert (refused.status_code, refused.json["error"]["code"]) == (405, "method_not_allowed")
        assert {"GET", "HEAD", "OPTIONS"} <= set(refused.headers["Allow"].split(", "))
    options = api.call("OPTIONS", path)
    assert (options.status_code, options.data) == (200, b"")
    assert set(options.headers["Allow"].split(", ")) == set(refused.headers["Allow"].split(", "))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/jobs", 200),
        ("HEAD", "/v1/jobs", 200),
        ("OPTIONS", "/v1/jobs", 200),
        ("GET", "/v1/jobs?limit=0", 400),
        ("GET", "/v1/jobs/nothing", 404),
        ("GET", "/v1/models/nothing", 404),
        ("POST", "/v1/batches", 400),
        ("POST", "/v1/files", 400),
    ],
)
def test_every_answer_of_a_route_has_an_id_and_tells_the_limits(api: Api, method: str, path: str, status: int) -> None:
    answer = api.call(method, path)
    assert answer.status_code == status
    assert {name.lower() for name, _ in answer.headers} >= {"x-request-id", *LIMITS}
    if status >= 400:
        assert answer.json["error"]["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("style", ["Bearer", "bearer", "X-Api-Key"])
def test_a_key_is_taken_in_either_header(api: Api, style: str) -> None:
    headers = {"X-Api-Key": api.key} if style == "X-Api-Key" else {"Authorization": f"{style} {api.key}"}
    assert api.client.get("/v1/models", headers=headers).status_code == 200
    other_scheme = {"Authorization": "Basic x", "X-Api-Key": api.key}
    assert api.client.get("/v1/models", headers=other_scheme).status_code == 200
