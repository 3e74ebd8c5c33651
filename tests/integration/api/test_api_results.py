"""Results: streamed part by part, walked by cursor, in either dialect."""

from __future__ import annotations

import hashlib
import io
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from sqlalchemy import func, insert, update
from tenant_api import Api

from app.db.tables import files, jobs, result_parts
from app.domain.ids import new_id
from app.domain.items import ItemFailed, ItemSucceeded
from app.domain.jobs import Dialect
from app.domain.result_lines import LineContext, failed_line, succeeded_line
from app.wiring import Wiring

N_SUCCEEDED, N_FAILED = 5, 2


class FinishedJob:
    """A job of the tenant with three parts, written as a worker writes them."""

    def __init__(self, wiring: Wiring, api: Api, dialect: Dialect) -> None:
        self.wiring = wiring
        made = api.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "inputs": ["x"]}).json
        self.id: str = made["id"]
        self.context = LineContext(dialect=dialect, job_id=self.id, model_version="v1")
        with wiring.database.begin() as connection:
            self.tenant_id = connection.execute(jobs.select().where(jobs.c.id == self.id)).mappings().one()["tenant_id"]
        self.parts = [
            self._part(1, "succeeded", [self._good(0), self._good(1), self._good(2)]),
            self._part(2, "failed", [self._bad(3), self._bad(4)]),
            self._part(3, "succeeded", [self._good(5), self._good(6)]),
        ]
        values = {"dialect": dialect, "state": "partially_succeeded", "model_version": "v1", "finished_at": func.now()}
        self.change(**values, n_items=N_SUCCEEDED + N_FAILED)

    def change(self, **values: Any) -> None:
        with self.wiring.database.begin() as connection:
            connection.execute(update(jobs).where(jobs.c.id == self.id).values(**values))

    def add_file(self, kind: str) -> str:
        file_id, wanted = new_id("file-"), {"output": {"succeeded"}, "error": {"failed"}}[kind]
        size_bytes = sum(len(content) for outcome, content in self.parts if outcome in wanted)
        row = {"id": file_id, "tenant_id": self.tenant_id, "purpose": "batch_output", "filename": f"{kind}.jsonl"}
        with self.wiring.database.begin() as connection:
            connection.execute(insert(files).values(**row, size_bytes=size_bytes, job_id=self.id))
        self.change(**{f"{kind}_file_id": file_id})
        return file_id

    def _good(self, index: int) -> bytes:
        outcome = ItemSucceeded(index, b'{"echo":"%d"}' % index, input_tokens=1, output_tokens=0)
        return succeeded_line(self.context, outcome, custom_id=f"item//{index}", attempts=1)

    def _bad(self, index: int) -> bytes:
        outcome = ItemFailed(index, "rate_limited", "slow down")
        return failed_line(self.context, outcome, custom_id=f"item//{index}", attempts=3)

    def _part(self, seq: int, outcome: str, lines: list[bytes]) -> tuple[str, bytes]:
        content = b"".join(lines)
        key = f"parts/{self.tenant_id}/{self.id}/{seq}"
        self.wiring.storage.put(key, io.BytesIO(content), size_bytes=len(content))
        row = {"tenant_id": self.tenant_id, "job_id": self.id, "seq": seq, "outcome": outcome, "object_key": key}
        digest = hashlib.sha256(content).hexdigest()
        with self.wiring.database.begin() as connection:
            connection.execute(
                insert(result_parts).values(**row, size_bytes=len(content), n_items=len(lines), sha256=digest)
            )
        return outcome, content


@pytest.fixture(params=[Dialect.NATIVE, Dialect.OPENAI])
def job(request: pytest.FixtureRequest, wiring: Wiring, api: Api) -> FinishedJob:
    """A finished job of each dialect."""
    return FinishedJob(wiring, api, request.param)


@pytest.fixture
def native_job(wiring: Wiring, api: Api) -> FinishedJob:
    """A finished native job."""
    return FinishedJob(wiring, api, Dialect.NATIVE)


@pytest.fixture
def batch(wiring: Wiring, api: Api) -> FinishedJob:
    """A finished batch."""
    return FinishedJob(wiring, api, Dialect.OPENAI)


def _lines(content: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in content.splitlines()]


def test_every_item_has_one_native_line_whatever_the_dialect(api: Api, job: FinishedJob) -> None:
    response = api.get(f"/v1/jobs/{job.id}/results")
    assert response.mimetype == "application/x-ndjson"
    assert response.headers["x-nightshift-complete"] == "true"
    assert "x-nightshift-next-cursor" not in response.headers
    lines = _lines(response.data)
    assert [line["index"] for line in lines] == list(range(7))
    assert lines[0]["response"] == {"status_code": 200, "body": {"echo": "0"}}
    assert lines[0]["status"] == "succeeded"
    assert lines[3]["status"] == "failed"
    assert lines[3]["error"] == {
        "type": "rate_limit_error",
        "code": "rate_limited",
        "message": "slow down",
        "retryable": True,
    }
    assert lines[3]["attempts"] == 3
    assert {line["model_version"] for line in lines} == {"v1"}


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7])
def test_pages_of_any_size_give_each_line_once(api: Api, job: FinishedJob, limit: int) -> None:
    whole, found, after = api.get(f"/v1/jobs/{job.id}/results").data, b"", ""
    for _ in range(20):
        page = api.get(f"/v1/jobs/{job.id}/results?limit={limit}{after}")
        assert len(_lines(page.data)) <= limit
        found += page.data
        cursor = page.headers.get("x-nightshift-next-cursor")
        if cursor is None:
            break
        after = f"&after={cursor}"
    assert found == whole


def test_a_running_job_is_read_as_far_as_it_is(api: Api, job: FinishedJob) -> None:
    job.change(state="running", finished_at=None)
    first = api.get(f"/v1/jobs/{job.id}/results")
    assert first.headers["x-nightshift-complete"] == "false"
    cursor = first.headers["x-nightshift-next-cursor"]
    again = api.get(f"/v1/jobs/{job.id}/results?after={cursor}")
    assert again.data == b""
    assert again.headers["x-nightshift-next-cursor"] == cursor
    job._part(4, "succeeded", [job._good(7)])
    more = api.get(f"/v1/jobs/{job.id}/results?after={cursor}")
    assert [line["index"] for line in _lines(more.data)] == [7]


def test_results_are_narrowed_by_status(api: Api, job: FinishedJob) -> None:
    failed = _lines(api.get(f"/v1/jobs/{job.id}/results?status=failed").data)
    assert [line["index"] for line in failed] == [3, 4]
    both = _lines(api.get(f"/v1/jobs/{job.id}/results?status=failed,succeeded&limit=4").data)
    assert [line["index"] for line in both] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("query", "param"),
    [("status=done", "status"), ("after=nope", "after"), ("after=%00", "after"), ("limit=0", "limit")],
)
def test_a_wrong_query_is_400(api: Api, native_job: FinishedJob, query: str, param: str) -> None:
    refused = api.get(f"/v1/jobs/{native_job.id}/results?{query}")
    assert (refused.status_code, refused.json["error"]["param"]) == (400, param)


def test_a_finished_native_job_is_read_by_range(api: Api, native_job: FinishedJob) -> None:
    whole = api.get(f"/v1/jobs/{native_job.id}/results")
    assert whole.headers["Content-Length"] == str(len(whole.data))
    first = len(native_job.parts[0][1])
    piece = api.get(f"/v1/jobs/{native_job.id}/results", headers={"Range": f"bytes={first - 5}-{first + 4}"})
    assert (piece.status_code, piece.data) == (206, whole.data[first - 5 : first + 5])


def test_one_item_is_found_by_its_custom_id(api: Api, job: FinishedJob) -> None:
    found = api.get(f"/v1/jobs/{job.id}/results/item//4")
    assert (found.json["custom_id"], found.json["index"], found.json["status"]) == ("item//4", 4, "failed")
    missing = api.get(f"/v1/jobs/{job.id}/results/item")
    assert (missing.status_code, missing.json["error"]["param"]) == (404, "custom_id")


@pytest.mark.parametrize("custom_id", ["/a", "a/", "/", "//a//", "a\nb", "a\n", "a?b#c", "ä%2F b"])
def test_an_item_is_found_whatever_its_custom_id_looks_like(api: Api, native_job: FinishedJob, custom_id: str) -> None:
    outcome = ItemSucceeded(7, b"{}", input_tokens=0, output_tokens=0)
    native_job._part(4, "succeeded", [succeeded_line(native_job.context, outcome, custom_id=custom_id, attempts=1)])
    found = api.get(f"/v1/jobs/{native_job.id}/results/{quote(custom_id, safe='')}")
    assert (found.status_code, found.json.get("custom_id")) == (200, custom_id)


def test_the_manifest_tells_what_the_results_are(api: Api, job: FinishedJob) -> None:
    manifest = api.get(f"/v1/jobs/{job.id}/manifest").json
    assert manifest["complete"] is True
    assert [part["items"] for part in manifest["parts"]] == [3, 2, 2]
    for part, (outcome, content) in zip(manifest["parts"], job.parts, strict=True):
        assert (part["outcome"], part["bytes"]) == (outcome, len(content))
        assert part["sha256"] == hashlib.sha256(content).hexdigest()
    digests = "".join(f"{part['sha256']}\n" for part in manifest["parts"])
    assert manifest["digest"] == hashlib.sha256(digests.encode()).hexdigest()


def test_output_and_error_file_hold_each_item_once(api: Api, batch: FinishedJob) -> None:
    output_id, error_id = batch.add_file("output"), batch.add_file("error")
    output, error = (api.get(f"/v1/files/{file_id}/content") for file_id in (output_id, error_id))
    assert output.data == batch.parts[0][1] + batch.parts[2][1]
    assert error.data == batch.parts[1][1]
    assert api.get(f"/v1/files/{output_id}").json["bytes"] == len(output.data)
    joint = len(batch.parts[0][1])
    piece = api.get(f"/v1/files/{output_id}/content", headers={"Range": f"bytes={joint - 3}-{joint + 2}"})
    assert piece.data == output.data[joint - 3 : joint + 3]
    shown = api.get(f"/v1/batches/{batch.id}").json
    assert (shown["status"], shown["output_file_id"], shown["error_file_id"]) == ("completed", output_id, error_id)
    assert shown["completed_at"] is not None
    assert shown["failed_at"] is None
    assert api.delete(f"/v1/files/{output_id}").json["deleted"] is True
    assert api.get(f"/v1/files/{output_id}/content").status_code == 404
    assert len(_lines(api.get(f"/v1/jobs/{batch.id}/results").data)) == 7


def test_results_past_their_life_are_gone(api: Api, job: FinishedJob) -> None:
    job.change(results_expire_at=func.now())
    assert api.get(f"/v1/jobs/{job.id}/results").status_code == 404
    assert api.get(f"/v1/jobs/{job.id}/results/item//0").status_code == 404
    assert api.get(f"/v1/jobs/{job.id}").status_code == 200


def test_a_part_that_is_missing_is_an_error_and_not_a_short_answer(api: Api, native_job: FinishedJob) -> None:
    native_job.wiring.storage.delete([f"parts/{native_job.tenant_id}/{native_job.id}/1"])
    response = api.get(f"/v1/jobs/{native_job.id}/results")
    assert (response.status_code, response.json["error"]["code"]) == (500, "object_missing")


@pytest.mark.parametrize(
    ("state", "failure", "status"),
    [
        ("validating", None, "validating"),
        ("queued", None, "in_progress"),
        ("running", None, "in_progress"),
        ("held", None, "in_progress"),
        ("paused", None, "in_progress"),
        ("finalizing", None, "finalizing"),
        ("cancelling", None, "cancelling"),
        ("cancelled", None, "cancelled"),
        ("expired", None, "expired"),
        ("succeeded", None, "completed"),
        ("partially_succeeded", None, "completed"),
        ("failed", None, "completed"),
        ("failed", {"code": "empty_file", "message": "The input has no lines."}, "failed"),
    ],
)
def test_states_read_as_a_batch(api: Api, batch: FinishedJob, state: str, failure: Any, status: str) -> None:
    batch.change(state=state, failure=failure)
    shown = api.get(f"/v1/batches/{batch.id}").json
    assert shown["status"] == status
    moments = ("completed", "failed", "expired", "cancelled")
    assert [end for end in moments if shown[f"{end}_at"] is not None] == [end for end in moments if end == status]
    assert (shown["errors"] is not None) == (status == "failed")
    if status == "failed":
        assert shown["errors"]["data"][0]["code"] == "empty_file"


def test_steering_a_finished_job_is_409_for_ever(api: Api, job: FinishedJob) -> None:
    steering = [f"/v1/jobs/{job.id}/{verb}" for verb in ("cancel", "pause", "resume")]
    for path in (*steering, f"/v1/batches/{job.id}/cancel"):
        refused = api.post(path)
        assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
