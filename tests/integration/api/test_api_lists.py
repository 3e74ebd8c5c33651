"""Lists that are walked while objects come and go: nothing that was there at the beginning is skipped or repeated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tenant_api import Api

LINE = b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"model": "echo", "input": "x"}}\n'
ECHO = {"endpoint": "/v1/echo", "model": "echo"}


def _file(api: Api) -> str:
    return str(api.upload(LINE).json["id"])


def _job(api: Api) -> str:
    return str(api.post("/v1/jobs", json={**ECHO, "inputs": ["a"]}).json["id"])


def _batch(api: Api) -> str:
    body = {"input_file_id": _file(api), "endpoint": "/v1/echo", "completion_window": "24h"}
    return str(api.post("/v1/batches", json=body).json["id"])


def _schedule(api: Api) -> str:
    body = {"name": "x", "cron": "0 0 29 2 *", "job": ECHO, "source": {"prefix": "none/"}}
    return str(api.post("/v1/schedules", json=body).json["id"])


@dataclass(frozen=True)
class Walked:
    """A list, and how something is added to it."""

    path: str
    add: Callable[[Api], str]
    newest_first: bool = True


LISTS = [
    Walked("/v1/jobs?", _job),
    Walked("/v1/batches?", _batch),
    Walked("/v1/files?", _file),
    Walked("/v1/files?order=asc&", _file, newest_first=False),
    Walked("/v1/schedules?", _schedule),
]
every_list = pytest.mark.parametrize("walked", LISTS, ids=lambda walked: walked.path)


def _page(api: Api, path: str, after: str | None, limit: int) -> dict[str, Any]:
    answer = api.get(f"{path}limit={limit}" + (f"&after={after}" if after else ""))
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json
    ids = [shown["id"] for shown in page["data"]]
    assert page["object"] == "list"
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))
    return page


@every_list
@pytest.mark.parametrize("limit", [1, 2])
def test_what_is_made_meanwhile_neither_hides_nor_repeats_anything(api: Api, walked: Walked, limit: int) -> None:
    made = [walked.add(api) for _ in range(4)]
    seen: list[str] = []
    after, has_more = None, True
    while has_more and len(seen) < 4:
        page = _page(api, walked.path, after, limit)
        seen += [shown["id"] for shown in page["data"]]
        after, has_more = page["last_id"], page["has_more"]
        walked.add(api)
    assert seen[:4] == (made[::-1] if walked.newest_first else made)
    assert has_more is not walked.newest_first


@pytest.mark.parametrize("walked", [LISTS[2], LISTS[3], LISTS[4]], ids=lambda walked: walked.path)
def test_what_is_deleted_still_marks_its_place(api: Api, walked: Walked) -> None:
    made = [walked.add(api) for _ in range(3)]
    order = made[::-1] if walked.newest_first else made
    assert _page(api, walked.path, None, 2)["last_id"] == order[1]
    assert api.delete(f"{walked.path.partition('?')[0]}/{order[1]}").status_code == 200
    assert [shown["id"] for shown in _page(api, walked.path, order[1], 2)["data"]] == [order[2]]


def test_the_runs_of_a_schedule_are_walked_by_id(api: Api) -> None:
    path = f"/v1/schedules/{_schedule(api)}"
    made = [api.post(f"{path}/run").json["id"] for _ in range(3)]
    first = _page(api, f"{path}/runs?", None, 2)
    assert ([run["id"] for run in first["data"]], first["has_more"]) == (made[:0:-1], True)
    api.post(f"{path}/run")
    rest = _page(api, f"{path}/runs?", first["last_id"], 2)
    assert ([run["id"] for run in rest["data"]], rest["has_more"]) == ([made[0]], False)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs?after=job_" + "0" * 32,
        "/v1/jobs?after=nothing",
        "/v1/batches?after=batch_" + "0" * 32,
        "/v1/files?after=file-none",
        "/v1/groups?after=group_none",
        "/v1/schedules?after=sched_none",
    ],
)
def test_behind_what_never_was_there_is_nothing_and_the_parameter_is_named(api: Api, path: str) -> None:
    error = api.get(path)
    assert (error.status_code, error.json["error"]["code"], error.json["error"]["param"]) == (404, "not_found", "after")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/nothing",
        "/v1/jobs/job_" + "0" * 32,
        "/v1/batches/nothing",
        "/v1/files/nothing",
        "/v1/files/nothing/content",
        "/v1/groups/nothing",
        "/v1/schedules/nothing",
    ],
)
def test_an_object_that_is_not_there_is_the_id_at_fault(api: Api, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json["error"]["param"]) == (404, "id")
