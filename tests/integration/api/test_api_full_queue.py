"""Past the hard cap on unfinished jobs: 429, and when to come back from how fast they end."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from tenant_api import Api
from werkzeug.test import TestResponse

from app.domain.backpressure import LONGEST_WAIT_S, retry_after_s
from app.factory import create_app
from app.wiring import Wiring

CAP = 3
JOB = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a"]}


@pytest.fixture(scope="module")
def capped_app(wiring: Wiring) -> Flask:
    """An installation in which a tenant may have three unfinished jobs."""
    settings = dataclasses.replace(wiring.settings, max_queued_jobs=CAP)
    return create_app(dataclasses.replace(wiring, settings=settings))


@pytest.fixture
def capped(capped_app: Flask, api: Api) -> Api:
    """A tenant there."""
    return Api(capped_app.test_client(), api.key, api.key_id)


@pytest.fixture
def end_job(wiring: Wiring) -> Callable[..., None]:
    """End a job so many seconds ago."""

    def end(job_id: str, *, seconds_ago: float) -> None:
        with wiring.database.begin() as connection:
            statement = (
                "UPDATE jobs SET state = 'succeeded', finished_at = now() - :ago * interval '1 s' WHERE id = :id"
            )
            connection.execute(text(statement), {"id": job_id, "ago": seconds_ago})

    return end


def _fill(api: Api) -> list[Any]:
    made = [api.post("/v1/jobs", json=JOB) for _ in range(CAP)]
    assert [answer.status_code for answer in made] == [202] * CAP
    return [answer.json["id"] for answer in made]


def _wait_s(refused: TestResponse) -> int:
    assert (refused.status_code, refused.json["error"]["code"]) == (429, "queue_full"), refused.text
    assert refused.json["error"]["retryable"] is True
    return int(refused.headers["Retry-After"])


def test_where_nothing_ends_it_says_the_longest_wait(capped: Api, other: Api) -> None:
    _fill(capped)
    assert _wait_s(capped.post("/v1/jobs", json=JOB)) == LONGEST_WAIT_S
    neighbour = Api(capped.client, other.key, other.key_id)
    assert neighbour.post("/v1/jobs", json=JOB).status_code == 202


def test_the_wait_is_how_often_the_tenants_jobs_ended_lately(capped: Api, end_job: Callable[..., None]) -> None:
    for seconds_ago in (90, 60, 30):
        end_job(capped.post("/v1/jobs", json=JOB).json["id"], seconds_ago=seconds_ago)
    _fill(capped)
    assert 30 <= _wait_s(capped.post("/v1/jobs", json=JOB)) <= 33


def test_when_one_has_ended_there_is_room(capped: Api, end_job: Callable[..., None]) -> None:
    first, *_ = _fill(capped)
    _wait_s(capped.post("/v1/jobs", json=JOB))
    end_job(first, seconds_ago=0)
    assert capped.post("/v1/jobs", json=JOB).status_code == 202
    assert _wait_s(capped.post("/v1/jobs", json=JOB)) == 1


def test_submits_at_once_do_not_pass_the_cap_together(capped: Api, capped_app: Flask) -> None:
    statuses: list[int] = []

    def submit() -> None:
        own = Api(capped_app.test_client(), capped.key, capped.key_id)
        statuses.append(own.post("/v1/jobs", json=JOB).status_code)

    threads = [threading.Thread(target=submit) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] * CAP + [429] * 7


@given(st.integers(0, 100), st.floats(0, 600))
def test_the_wait_is_always_one_that_clients_honour(n_ended: int, within_s: float) -> None:
    assert 1 <= retry_after_s(n_ended=n_ended, within_s=within_s) <= 120
