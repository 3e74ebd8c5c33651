"""PATCH of a live job: priority, window, metadata."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from tenant_api import Api

from app.wiring import Wiring

Change = dict[str, Any]


@pytest.fixture
def job(api: Api) -> Change:
    """A live job as it was accepted."""
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a", "b"], "metadata": {"team": "night"}}
    accepted: Change = api.post("/v1/jobs", json=body).json
    return accepted


def _updates(wiring: Wiring, job_id: str) -> list[Change]:
    query = text("SELECT data FROM events WHERE job_id = :id AND kind = 'update' ORDER BY id")
    with wiring.database.begin() as connection:
        return [row.data["changes"] for row in connection.execute(query, {"id": job_id})]


def test_what_is_changed_is_shown_and_the_rest_stays(api: Api, job: Change, wiring: Wiring) -> None:
    answer = api.patch(f"/v1/jobs/{job['id']}", json={"priority": "urgent", "metadata": {"run": "2"}})
    assert answer.status_code == 200, answer.text
    changed = {"priority": "urgent", "metadata": {"run": "2"}}
    assert answer.json == {**job, **changed} == api.get(f"/v1/jobs/{job['id']}").json
    told = {
        "priority": {"from": "standard", "to": "urgent"},
        "metadata": {"from": {"team": "night"}, "to": {"run": "2"}},
    }
    assert _updates(wiring, job["id"]) == [told]


def test_a_window_counts_from_the_creation_of_the_job(api: Api, job: Change) -> None:
    changed = api.patch(f"/v1/jobs/{job['id']}", json={"completion_window": "2h"}).json
    created_at, deadline_at = (datetime.fromisoformat(changed[name]) for name in ("created_at", "deadline_at"))
    assert (changed["completion_window"], deadline_at - created_at) == ("2h", timedelta(hours=2))


def test_the_id_of_its_batch_will_do(api: Api, job: Change) -> None:
    batch_id = job["id"].replace("job_", "batch_")
    assert api.patch(f"/v1/jobs/{batch_id}", json={"priority": "background"}).json["priority"] == "background"


def test_a_window_that_has_passed_is_refused_and_changes_nothing(api: Api, job: Change, wiring: Wiring) -> None:
    with wiring.database.begin() as connection:
        older = "UPDATE jobs SET created_at = created_at - interval '1 hour' WHERE id = :id"
        connection.execute(text(older), {"id": job["id"]})
    before = api.get(f"/v1/jobs/{job['id']}").json
    refused = api.patch(f"/v1/jobs/{job['id']}", json={"completion_window": "30m", "priority": "urgent"})
    assert (refused.status_code, refused.json["error"]["param"]) == (400, "completion_window")
    assert "has passed already" in refused.json["error"]["message"]
    assert api.get(f"/v1/jobs/{job['id']}").json == before


def test_asking_for_what_holds_is_no_error_and_no_event(api: Api, job: Change, wiring: Wiring) -> None:
    same = {"priority": "standard", "completion_window": "24h", "metadata": {"team": "night"}}
    assert api.patch(f"/v1/jobs/{job['id']}", json=same).json == job
    assert _updates(wiring, job["id"]) == []


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "priority"),
        ({"priority": "yesterday"}, "invalid_value", "priority"),
        ({"priority": None}, "invalid_value", "priority"),
        ({"completion_window": "59s"}, "invalid_value", "completion_window"),
        ({"completion_window": "8d"}, "invalid_value", "completion_window"),
        ({"completion_window": "-1h"}, "invalid_value", "completion_window"),
        ({"completion_window": "1.5h"}, "invalid_value", "completion_window"),
        ({"completion_window": "999999999999h"}, "invalid_value", "completion_window"),
        ({"completion_window": 3600}, "invalid_value", "completion_window"),
        ({"metadata": None}, "invalid_value", "metadata"),
        ({"metadata": {"k": 1}}, "invalid_value", "metadata.k"),
        ({"model": "echo"}, "unknown_parameter", "model"),
    ],
)
def test_nonsense_is_refused_by_name(api: Api, job: Change, body: Change, code: str, param: str) -> None:
    refused = api.patch(f"/v1/jobs/{job['id']}", json=body)
    error = refused.json["error"]
    assert (refused.status_code, error["code"], error["param"]) == (400, code, param)
    assert api.get(f"/v1/jobs/{job['id']}").json == job


@pytest.mark.parametrize("state", ["finalizing", "succeeded", "cancelled", "expired"])
def test_a_job_that_ends_or_has_ended_is_not_changed(api: Api, job: Change, wiring: Wiring, state: str) -> None:
    with wiring.database.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = :state WHERE id = :id"), {"state": state, "id": job["id"]})
    refused = api.patch(f"/v1/jobs/{job['id']}", json={"priority": "urgent"})
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert api.get(f"/v1/jobs/{job['id']}").json["priority"] == "standard"


def test_a_job_that_is_being_cancelled_is_not_changed(api: Api, job: Change) -> None:
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert api.patch(f"/v1/jobs/{job['id']}", json={"priority": "urgent"}).status_code == 409


def test_another_tenants_job_is_not_there(other: Api, job: Change) -> None:
    assert other.patch(f"/v1/jobs/{job['id']}", json={"priority": "urgent"}).status_code == 404
