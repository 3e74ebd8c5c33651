"""Groups over HTTP: a native file above one job's limits becomes one, nothing else does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from tenant_api import Api
from werkzeug.test import TestResponse

from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.services.lead_group import lead_group
from app.wiring import Wiring

JOB = {"endpoint": "/v1/echo", "model": "echo", "metadata": {"team": "a"}, "priority": "background"}


@pytest.fixture
def small(wiring: Wiring) -> Wiring:
    """An installation whose jobs take three lines and two kilobytes."""
    settings = replace(wiring.settings, max_job_items=3, max_member_items=2, max_file_bytes=100_000)
    return replace(wiring, settings=settings)


@pytest.fixture
def make_api(small: Wiring) -> Callable[[], Api]:
    """Make a tenant of it with a key."""
    app = create_app(small)

    def make() -> Api:
        issued = create_api_key(wiring=small, tenant=f"test-{uuid4().hex}")
        return Api(app.test_client(), issued.key, issued.key_id)

    return make


def lines(n: int) -> bytes:
    return b"".join(b'{"custom_id": "%d", "body": {"input": "%d"}}\n' % (each, each) for each in range(n))


def submit(api: Api, n_lines: int, *, end: bytes = b"", **headers: str) -> TestResponse:
    file = api.upload(lines(n_lines) + end).json["id"]
    return api.post("/v1/jobs", json={**JOB, "input_file_id": file}, headers=headers)


def test_a_file_above_one_jobs_lines_becomes_a_group(api: Api) -> None:
    answer = submit(api, 4)
    group = answer.json
    assert (answer.status_code, group["object"], group["state"]) == (202, "group", "validating")
    assert answer.headers["Location"] == f"/v1/groups/{group['id']}"
    assert group["counts"] == {**dict.fromkeys(group["counts"], 0), "total": 4, "pending": 4}
    assert (group["metadata"], group["priority"], group["jobs"]) == (JOB["metadata"], "background", [])
    assert api.get(group["links"]["self"]).json == group


@pytest.mark.parametrize("end", [b"", b"\n\n  \n"], ids=["just full", "with blank lines behind"])
def test_a_file_within_one_jobs_limits_stays_a_job(api: Api, end: bytes) -> None:
    assert submit(api, 3, end=end).json["object"] == "job"


def test_its_jobs_are_listed_with_the_group_and_not_among_the_others(api: Api, small: Wiring) -> None:
    group = submit(api, 5).json
    lead_group(wiring=small, group_id=group["id"])
    jobs = api.get(group["links"]["self"]).json["jobs"]
    assert len(jobs) == 3
    listed = api.get(group["links"]["jobs"]).json["data"]
    assert sorted(job["id"] for job in listed) == sorted(jobs)
    assert {job["group_id"] for job in listed} == {group["id"]}
    assert {(job["priority"], job["deadline_at"]) for job in listed} == {("background", group["deadline_at"])}
    assert [job["metadata"] for job in listed] == [JOB["metadata"]] * 3
    assert api.get("/v1/jobs").json["data"] == []


def test_the_same_request_again_is_the_same_group(api: Api) -> None:
    file = api.upload(lines(4)).json["id"]
    body, headers = {**JOB, "input_file_id": file}, {"Idempotency-Key": uuid4().hex}
    first, again = (api.post("/v1/jobs", json=body, headers=headers) for _ in range(2))
    assert (again.data, again.headers["idempotent-replayed"]) == (first.data, "true")
    assert again.headers["Location"] == first.headers["Location"]
    assert len(api.get("/v1/groups").json["data"]) == 1


def test_groups_are_listed_newest_first_page_by_page(api: Api) -> None:
    made = [submit(api, 4).json["id"] for _ in range(3)]
    first = api.get("/v1/groups?limit=2").json
    assert (first["has_more"], first["last_id"]) == (True, made[1])
    rest = api.get(f"/v1/groups?limit=2&after={first['last_id']}").json
    assert [group["id"] for group in first["data"] + rest["data"]] == made[::-1]
    assert api.get("/v1/groups?after=group_nothing").status_code == 404


def test_an_openai_batch_on_such_a_file_is_a_batch_still(api: Api) -> None:
    file = api.upload(lines(4)).json["id"]
    body = {"input_file_id": file, "endpoint": "/v1/echo", "completion_window": "24h"}
    assert api.post("/v1/batches", json=body).json["object"] == "batch"


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_a_group_is_steered_over_http(api: Api, verb: str) -> None:
    group = submit(api, 4).json
    answers = [api.post(group["links"][verb]) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert {answer.json["state"] for answer in answers} == {{"cancel": "cancelling", "pause": "paused"}[verb]}


def test_a_refused_group_says_which_lines(api: Api, small: Wiring) -> None:
    file = api.upload(lines(4) + b"{\n").json["id"]
    group = api.post("/v1/jobs", json={**JOB, "input_file_id": file}).json
    lead_group(wiring=small, group_id=group["id"])
    ended = api.get(group["links"]["self"]).json
    assert (ended["state"], ended["errors"]["validation"][0]["line"]) == ("failed", 5)
    assert ended["finished_at"] is not None
    refusal = api.post(group["links"]["cancel"])
    assert (refusal.status_code, refusal.json["error"]["code"]) == (409, "state_conflict")
    results = api.get(group["links"]["results"])
    assert (results.data, results.headers["x-nightshift-complete"]) == (b"", "true")


def test_a_group_of_nobody_and_of_somebody_else_is_not_found(api: Api, other: Api) -> None:
    group = submit(api, 4).json
    for path in ("", "/results", "/results/0", "/manifest"):
        assert other.get(f"/v1/groups/{group['id']}{path}").status_code == 404
        assert api.get(f"/v1/groups/group_none%00{path}").status_code == 404
    for verb in ("cancel", "pause", "resume", "retry"):
        assert other.post(f"/v1/groups/{group['id']}/{verb}").status_code == 404
    assert other.get("/v1/groups").json["data"] == []
    assert other.get(f"/v1/jobs?group_id={group['id']}").json["data"] == []


@pytest.mark.parametrize("after", ["MS4w", "x", "%00", "MS4wLjA"])
def test_a_cursor_that_is_none_is_refused(api: Api, after: str) -> None:
    group = submit(api, 4).json
    answer = api.get(f"/v1/groups/{group['id']}/results?after={after}")
    assert (answer.status_code, answer.json["error"]["param"]) == (400, "after")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"endpoint": "/v1/none"}, "endpoint"),
        ({"model": "none"}, "model"),
        ({"completion_window": "1s"}, "completion_window"),
    ],
)
def test_a_group_is_refused_as_a_job_is(api: Api, changes: dict[str, str], param: str) -> None:
    file = api.upload(lines(4)).json["id"]
    answer = api.post("/v1/jobs", json={**JOB, **changes, "input_file_id": file})
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
