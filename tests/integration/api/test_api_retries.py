"""``POST /v1/jobs/{id}/retry`` as clients see it: what it takes, what it answers, and what results show around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, takewhile
from typing import Any

import orjson
import pytest
from core_machine import CoreMachine, core_machine
from flask import Flask
from seeded_work import expected_of, failing, good, healed
from tenant_api import Api

from app.factory import create_app
from app.services.create_api_key import create_api_key

ITEMS = [good("a"), healed("b"), good("c"), good("d"), failing("e"), good("f")]
N_GOOD = 4


@pytest.fixture(scope="module")
def core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core in which nothing runs but what a test turns, with chunks of two items."""
    with core_machine(servers, chunk_max_items=2) as machine:
        yield machine


@pytest.fixture(scope="module")
def app(core: CoreMachine) -> Flask:
    """The API over it."""
    return create_app(core.wiring)


@pytest.fixture
def api(app: Flask, core: CoreMachine) -> Api:
    """The API with the key of the core's tenant."""
    issued = create_api_key(wiring=core.wiring, tenant="tester")
    return Api(app.test_client(), issued.key, issued.key_id)


@pytest.fixture
def ended(core: CoreMachine) -> str:
    """A native job with two failures that has ended."""
    job_id = core.planned(ITEMS)
    core.drive(job_id)
    return job_id


@pytest.fixture
def batch(core: CoreMachine) -> str:
    """The same as an OpenAI batch."""
    job_id = core.submit_batch(ITEMS)
    core.drive(job_id)
    return job_id


def lines_of(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in content.splitlines()]


def names_of(content: bytes) -> list[str]:
    return sorted(line["custom_id"] for line in lines_of(content))


# -- the request


@pytest.mark.parametrize(
    "request_of",
    [
        dict,
        lambda: {"json": {}},
        lambda: {"json": {"include": ["failed", "expired", "cancelled"]}},
        lambda: {"json": {"include": ["failed", "failed"]}},
    ],
    ids=["no body", "empty", "all", "twice"],
)
def test_a_retry_is_accepted(api: Api, core: CoreMachine, ended: str, request_of: Callable[[], Any]) -> None:
    answer = api.post(f"/v1/jobs/{ended}/retry", **request_of())
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/v1/jobs/{ended}")
    assert answer.json["state"] == "queued"
    assert answer.json["attempt_runs"] == 1
    assert answer.json["counts"]["pending"] == 2
    assert answer.json["finished_at"] is answer.json["results_expire_at"] is None
    core.drive(ended)
    core.checker.check_job(ended, expected_of(ITEMS))


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"include": ["succeeded"]}, "invalid_value", "include[0]"),
        ({"include": ["failed", "lost"]}, "invalid_value", "include[1]"),
        ({"include": [["failed"]]}, "invalid_value", "include[0]"),
        ({"include": []}, "invalid_value", "include"),
        ({"include": "failed"}, "invalid_value", "include"),
        ({"include": None}, "invalid_value", "include"),
        ({"included": ["failed"]}, "unknown_parameter", "included"),
        ([], "invalid_value", None),
    ],
)
def test_a_body_that_is_wrong_is_named_and_changes_nothing(
    api: Api, core: CoreMachine, ended: str, body: Any, code: str, param: str | None
) -> None:
    refused = api.post(f"/v1/jobs/{ended}/retry", json=body)
    assert (refused.status_code, refused.json["error"]["code"], refused.json["error"]["param"]) == (400, code, param)
    assert core.job(ended).attempt_runs == 0


def test_a_body_that_is_no_json_is_refused(api: Api, ended: str) -> None:
    assert api.post(f"/v1/jobs/{ended}/retry", data=b"include=failed").status_code == 400
    assert api.post(f"/v1/jobs/{ended}/retry", data=b"{", content_type="application/json").status_code == 400


def test_refusals_say_what_is_so_and_that_asking_again_will_not_help(api: Api, core: CoreMachine, ended: str) -> None:
    path = f"/v1/jobs/{ended}/retry"
    nothing = api.post(path, json={"include": ["expired"]})
    assert (nothing.status_code, nothing.json["error"]["code"]) == (409, "nothing_to_retry")
    assert nothing.headers["x-should-retry"] == "false"
    assert api.post(path).status_code == 202
    live = api.post(path)
    assert (live.status_code, live.json["error"]["code"]) == (409, "state_conflict")
    assert live.headers["x-should-retry"] == "false"
    core.drive(ended)
    core.sql("UPDATE jobs SET results_expire_at = now() WHERE id = :id", id=ended)
    gone = api.post(path)
    assert (gone.status_code, gone.json["error"]["code"], gone.json["error"]["retryable"]) == (410, "gone", False)


def test_a_tenant_without_room_for_results_is_refused_as_documented(api: Api, core: CoreMachine, ended: str) -> None:
    core.sql("UPDATE tenants SET max_storage_bytes = 1 WHERE id = :id", id=core.tenant_id)
    try:
        refused = api.post(f"/v1/jobs/{ended}/retry")
    finally:
        core.sql("UPDATE tenants SET max_storage_bytes = NULL WHERE id = :id", id=core.tenant_id)
    assert (refused.status_code, refused.json["error"]["code"]) == (403, "storage_quota_exceeded")
    paths = api.get("/openapi.json").json["paths"]
    for path in ("/v1/jobs/{job_id}/retry", "/v1/groups/{group_id}/retry"):
        assert "storage_quota_exceeded" in str(paths[path]["post"]["responses"]["403"]), path


def test_another_tenant_finds_no_job_to_retry(app: Flask, core: CoreMachine, ended: str) -> None:
    issued = create_api_key(wiring=core.wiring, tenant="somebody else")
    other = Api(app.test_client(), issued.key, issued.key_id)
    assert other.post(f"/v1/jobs/{ended}/retry").status_code == 404
    assert core.job(ended).attempt_runs == 0


# -- sent twice


def test_the_same_request_again_is_answered_as_before_and_runs_nothing(api: Api, core: CoreMachine, ended: str) -> None:
    path, key = f"/v1/jobs/{ended}/retry", {"Idempotency-Key": "once"}
    first = api.post(path, json={"include": ["failed"]}, headers=key)
    core.drive(ended)
    again = api.post(path, json={"include": ["failed"]}, headers=key)
    assert (again.status_code, again.data) == (202, first.data)
    assert again.headers["idempotent-replayed"] == "true"
    assert core.job(ended).attempt_runs == 1
    other_body = api.post(path, json={}, headers=key)
    assert (other_body.status_code, other_body.json["error"]["code"]) == (422, "idempotency_key_reused")


def test_a_refused_retry_leaves_its_key_free(api: Api, core: CoreMachine) -> None:
    job_id, key = core.planned(ITEMS), {"Idempotency-Key": "early"}
    assert api.post(f"/v1/jobs/{job_id}/retry", headers=key).status_code == 409
    core.drive(job_id)
    assert api.post(f"/v1/jobs/{job_id}/retry", headers=key).status_code == 202


def test_the_same_request_many_times_at_once_is_one_retry(app: Flask, core: CoreMachine, api: Api, ended: str) -> None:
    def send(_: int) -> Any:
        own = Api(app.test_client(), api.key, api.key_id)
        return own.post(f"/v1/jobs/{ended}/retry", headers={"Idempotency-Key": "at-once"})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.data for answer in answers}) == 1
    assert core.job(ended).attempt_runs == 1


def test_without_a_key_one_of_many_wins(app: Flask, core: CoreMachine, api: Api, ended: str) -> None:
    def send(_: int) -> int:
        return Api(app.test_client(), api.key, api.key_id).post(f"/v1/jobs/{ended}/retry").status_code

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(send, range(6))) == [202, *[409] * 5]
    assert core.job(ended).attempt_runs == 1


# -- results around a retry


def test_superseded_lines_are_in_no_results_from_the_moment_of_the_retry(
    api: Api, core: CoreMachine, ended: str
) -> None:
    path = f"/v1/jobs/{ended}"
    assert names_of(api.get(f"{path}/results").data) == list("abcdef")
    api.post(f"{path}/retry")
    live = api.get(f"{path}/results")
    assert names_of(live.data) == list("acdf")
    assert live.headers["x-nightshift-complete"] == "false"
    assert api.get(f"{path}/results?status=failed").data == b""
    assert api.get(f"{path}/results/b").status_code == 404
    manifest = api.get(f"{path}/manifest").json
    assert (manifest["complete"], {part["outcome"] for part in manifest["parts"]}) == (False, {"succeeded"})
    job = api.get(path).json
    assert job["errors"]["by_code"] == {}
    core.drive(ended)
    final = api.get(f"{path}/results")
    assert final.headers["x-nightshift-complete"] == "true"
    assert names_of(final.data) == list("abcdef")
    assert [line["status"] for line in lines_of(api.get(f"{path}/results?status=failed").data)] == ["failed"]
    assert api.get(f"{path}/results/b").json["status"] == "succeeded"
    assert api.get(f"{path}/results/e").json["attempts"] == 2
    assert sum(part["items"] for part in api.get(f"{path}/manifest").json["parts"]) == len(ITEMS)


def test_a_range_of_the_final_results_is_cut_from_what_stands(api: Api, core: CoreMachine, ended: str) -> None:
    api.post(f"/v1/jobs/{ended}/retry")
    core.drive(ended)
    whole = api.get(f"/v1/jobs/{ended}/results").data
    assert sum(part["bytes"] for part in api.get(f"/v1/jobs/{ended}/manifest").json["parts"]) == len(whole)
    piece = api.get(f"/v1/jobs/{ended}/results", headers={"Range": "bytes=10-499"})
    assert (piece.status_code, piece.data) == (206, whole[10:500])


def walk(api: Api, path: str, after: str | None, limit: int = 1) -> Iterator[tuple[list[str], str | None]]:
    """Pages from a cursor on: the items of each and the cursor behind it."""
    while True:
        query = f"?limit={limit}" + (f"&after={after}" if after else "")
        page = api.get(f"{path}/results{query}")
        assert page.status_code == 200, page.json
        after = page.headers.get("x-nightshift-next-cursor")
        yield names_of(page.data), after
        if after is None:
            return


@pytest.mark.parametrize("n_read", [1, 2, 3, 4, 5, 6])
def test_a_cursor_of_before_goes_on_where_nothing_was_replaced_and_is_refused_where_something_was(
    api: Api, core: CoreMachine, ended: str, n_read: int
) -> None:
    path = f"/v1/jobs/{ended}"
    failed_at = [n for n, line in enumerate(lines_of(api.get(f"{path}/results").data)) if line["status"] == "failed"]
    pages = list(islice(walk(api, path, None), n_read))
    read, cursor = [name for names, _ in pages for name in names], pages[-1][1]
    api.post(f"{path}/retry")
    core.drive(ended)
    if cursor is None:
        return
    if n_read > min(failed_at):
        refused = api.get(f"{path}/results?after={cursor}")
        assert (refused.status_code, refused.json["error"]["code"]) == (400, "cursor_outdated")
        assert refused.json["error"]["param"] == "after"
    else:
        rest = [name for names, _ in walk(api, path, cursor) for name in names]
        assert sorted(read + rest) == list("abcdef")


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_a_reader_that_begins_during_the_retry_reads_each_item_once(
    api: Api, core: CoreMachine, ended: str, limit: int
) -> None:
    path = f"/v1/jobs/{ended}"
    api.post(f"{path}/retry")
    pages = list(takewhile(lambda page: page[0], walk(api, path, None, limit)))
    read, cursor = [name for names, _ in pages for name in names], pages[-1][1]
    assert sorted(read) == list("acdf")
    core.drive(ended)
    rest = [name for names, _ in walk(api, path, cursor, limit) for name in names]
    assert sorted(read + rest) == list("abcdef")


# -- OpenAI batches


def test_a_batch_that_is_retried_natively_is_in_progress_again_and_ends_with_new_files(
    api: Api, core: CoreMachine, batch: str
) -> None:
    path = f"/v1/batches/{batch.replace('job_', 'batch_')}"
    before = api.get(path).json
    assert before["request_counts"] == {"total": 6, "completed": 4, "failed": 2}
    assert api.post(f"/v1/jobs/{before['id']}/retry").status_code == 202
    live = api.get(path).json
    assert (live["status"], live["output_file_id"], live["error_file_id"]) == ("in_progress", None, None)
    assert live["completed_at"] is live["finalizing_at"] is None
    assert live["request_counts"] == {"total": 6, "completed": 4, "failed": 0}
    assert live["expires_at"] >= before["expires_at"]
    for old_id in (before["output_file_id"], before["error_file_id"]):
        assert api.get(f"/v1/files/{old_id}").status_code == 404
        assert api.get(f"/v1/files/{old_id}/content").status_code == 404
    core.drive(batch)
    core.checker.check_job(batch, expected_of(ITEMS))
    after = api.get(path).json
    assert (after["status"], after["request_counts"]) == ("completed", {"total": 6, "completed": 5, "failed": 1})
    assert names_of(api.get(f"/v1/files/{after['output_file_id']}/content").data) == list("abcdf")
    errors = api.get(f"/v1/files/{after['error_file_id']}/content")
    assert names_of(errors.data) == ["e"]
    assert api.get(f"/v1/files/{after['error_file_id']}").json["bytes"] == len(errors.data)
    listed = {file["id"] for file in api.get("/v1/files?purpose=batch_output&limit=100").json["data"]}
    assert {after["output_file_id"], after["error_file_id"]} <= listed
    assert not {before["output_file_id"], before["error_file_id"]} & listed


def test_a_batch_of_which_everything_is_healed_has_no_error_file(api: Api, core: CoreMachine) -> None:
    job_id = core.submit_batch([good("a"), healed("b")])
    core.drive(job_id)
    api.post(f"/v1/jobs/{job_id}/retry")
    core.drive(job_id)
    shown = api.get(f"/v1/batches/{job_id.replace('job_', 'batch_')}").json
    assert shown["error_file_id"] is None
    assert names_of(api.get(f"/v1/files/{shown['output_file_id']}/content").data) == ["a", "b"]
    core.checker.check_job(job_id)
