"""``/v1/schedules`` as clients see it."""

from __future__ import annotations

from typing import Any

import pytest
from tenant_api import Api

LINE = b'{"custom_id": "a", "body": {"input": "hello"}}\n'


def _body(**changes: Any) -> dict[str, Any]:
    known = {
        "name": "nightly",
        "cron": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "job": {"endpoint": "/v1/echo", "model": "echo", "metadata": {"team": "loans"}},
        "source": {"prefix": "inbox/loans/"},
        "due_by": "08:00",
    }
    return {**known, **changes}


def _made(api: Api, **changes: Any) -> dict[str, Any]:
    response = api.post("/v1/schedules", json=_body(**changes))
    assert response.status_code == 201
    made: dict[str, Any] = response.json
    return made


def test_a_schedule_shows_what_was_asked_with_defaults_filled_in(api: Api) -> None:
    made = _made(api)
    shown = api.get(f"/v1/schedules/{made['id']}").json
    assert shown == made
    assert (made["cron"], made["timezone"], made["due_by"], made["enabled"]) == (
        "30 2 * * *",
        "Europe/Berlin",
        "08:00",
        True,
    )
    assert made["job"]["priority"] == "standard"
    assert made["job"]["metadata"] == {"team": "loans"}
    assert made["source"] == {"prefix": "inbox/loans/"}
    assert made["next_run_at"].endswith(("00:30:00Z", "01:30:00Z"))


def test_schedules_are_listed_newest_first_and_page_by_page(api: Api) -> None:
    ids = [_made(api, name=f"n{n}")["id"] for n in range(3)]
    first = api.get("/v1/schedules?limit=2").json
    assert [schedule["id"] for schedule in first["data"]] == [ids[2], ids[1]]
    assert first["has_more"] is True
    rest = api.get(f"/v1/schedules?after={first['last_id']}").json
    assert [schedule["id"] for schedule in rest["data"]] == [ids[0]]


def test_a_schedule_run_now_makes_a_job_that_names_it(api: Api) -> None:
    file_id = api.upload(LINE).json["id"]
    made = _made(api, source={"file_id": file_id})
    run = api.post(f"/v1/schedules/{made['id']}/run")
    assert run.status_code == 202
    (job_id,) = run.json["job_ids"]
    job = api.get(f"/v1/jobs/{job_id}").json
    assert job["schedule_id"] == made["id"]
    assert job["metadata"] == {"team": "loans"}
    (listed,) = api.get(f"/v1/schedules/{made['id']}/runs").json["data"]
    assert (listed["id"], listed["tick_at"], listed["problem"]) == (run.json["id"], None, None)


def test_a_schedule_can_be_changed_and_switched_off(api: Api) -> None:
    made = _made(api)
    changed = api.call("PATCH", f"/v1/schedules/{made['id']}", json={"cron": "0 6 * * *", "enabled": False}).json
    assert (changed["cron"], changed["enabled"], changed["next_run_at"]) == ("0 6 * * *", False, None)
    assert changed["name"] == "nightly"
    on = api.call("PATCH", f"/v1/schedules/{made['id']}", json={"enabled": True}).json
    assert on["next_run_at"] is not None


def test_a_deleted_schedule_is_gone(api: Api) -> None:
    made = _made(api)
    gone = api.delete(f"/v1/schedules/{made['id']}")
    assert gone.json == {"id": made["id"], "object": "schedule", "deleted": True}
    assert api.get(f"/v1/schedules/{made['id']}").status_code == 404
    assert api.get("/v1/schedules").json["data"] == []


def test_another_tenants_schedule_is_404(api: Api, other: Api) -> None:
    path = f"/v1/schedules/{_made(api)['id']}"
    answers = [
        other.get(path),
        other.get(f"{path}/runs"),
        other.post(f"{path}/run"),
        other.delete(path),
        other.call("PATCH", path, json={"name": "mine"}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 5


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"timezone": "Mars"}, "timezone"),
        ({"due_by": "8 am"}, "due_by"),
        ({"due_by": "25:00"}, "due_by"),
        ({"name": ""}, "name"),
        ({"name": "a\u0000b"}, "name"),
        ({"source": {}}, "source"),
        ({"source": {"file_id": "file-1", "prefix": "a/"}}, "source"),
        ({"source": {"prefix": "../other/"}}, "source.prefix"),
        ({"source": {"prefix": "/etc"}}, "source.prefix"),
        ({"source": {"file_id": "file-nowhere"}}, "source.file_id"),
        ({"job": {"model": "echo"}}, "job.endpoint"),
        ({"job": {"endpoint": "/v1/echo", "input": "x"}}, "job.input"),
        ({"job": {"endpoint": "/v1/echo", "model": "nobody"}}, "model"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_wrong_schedule_is_400_and_names_its_field(api: Api, changes: dict[str, Any], param: str) -> None:
    refused = api.post("/v1/schedules", json=_body(**changes))
    assert refused.status_code == 400
    assert refused.json["error"]["param"] == param


@pytest.mark.parametrize("schedule_id", ["sched_nowhere", "%00", "a" * 5000, "..%2f"])
def test_an_id_that_nobody_has_is_404(api: Api, schedule_id: str) -> None:
    assert api.get(f"/v1/schedules/{schedule_id}").status_code == 404
