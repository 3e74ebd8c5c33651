"""Requests per minute, counted in the real Redis and, in its outages, without it."""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import structlog
from chaos.fault_proxy import FaultProxy
from flask import Flask
from tenant_api import Api
from werkzeug.test import TestResponse

from app.api.rate_limits import REDIS_TIMEOUT_S
from app.factory import create_app
from app.metrics import RATE_LIMITED, RATES_IN_MEMORY
from app.services.create_api_key import create_api_key
from app.services.request_rate import REMEMBERED_S
from app.wiring import Wiring

JOB = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a"]}
LIMIT = "x-ratelimit-limit-requests"
REMAINING = "x-ratelimit-remaining-requests"
RESET = "x-ratelimit-reset-requests"


@pytest.fixture
def make_limited(app: Flask, wiring: Wiring, admin: Api) -> Callable[[int], Api]:
    """Make a tenant that may send so many requests a minute."""

    def make(per_minute: int) -> Api:
        issued = create_api_key(wiring=wiring, tenant=f"test-{uuid4().hex}")
        _set(admin, issued.tenant, per_minute)
        return Api(app.test_client(), issued.key, issued.key_id)

    return make


def _set(admin: Api, tenant: str, per_minute: int) -> None:
    answer = admin.call("PATCH", f"/v1/admin/tenants/{tenant}", json={"requests_per_minute": per_minute})
    assert answer.status_code == 200


def _name(api: Api, admin: Api) -> str:
    (name,) = [key["tenant"] for key in admin.get("/v1/admin/keys").json["data"] if key["key_id"] == api.key_id]
    return str(name)


def _over(app: Flask, api: Api) -> Api:
    """The same tenant at another process."""
    return Api(app.test_client(), api.key, api.key_id)


def _is_refused(answer: TestResponse) -> bool:
    if answer.status_code != 429:
        assert answer.status_code == 202, answer.text
        return False
    assert answer.json["error"]["code"] == "rate_limit_exceeded"
    return True


def test_past_the_limit_it_says_so_and_when_to_come_back(make_limited: Callable[[int], Api]) -> None:
    api = make_limited(3)
    refused_before = RATE_LIMITED._value.get()
    answers = [api.post("/v1/jobs", json=JOB) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429, 429]
    assert [answer.headers[REMAINING] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert {answer.headers[LIMIT] for answer in answers} == {"3"}
    assert all(re.fullmatch(r"\d+s", answer.headers[RESET]) for answer in answers)
    error = answers[-1].json["error"]
    assert (error["type"], error["code"], error["retryable"]) == ("rate_limit_error", "rate_limit_exceeded", True)
    assert "3 requests a minute" in error["message"]
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 120
    assert RATE_LIMITED._value.get() == refused_before + 2


def test_submits_and_synchronous_requests_count_together(make_limited: Callable[[int], Api]) -> None:
    api = make_limited(3)
    batch = {"input_file_id": "file-none", "endpoint": "/v1/echo", "completion_window": "24h"}
    assert api.post("/v1/batches", json=batch).headers[REMAINING] == "2"
    assert api.post("/v1/embeddings", json={"model": "none", "input": "a"}).headers[REMAINING] == "1"
    assert api.post("/v1/jobs", json=JOB).headers[REMAINING] == "0"
    assert api.post("/v1/embeddings", json={"model": "none", "input": "a"}).status_code == 429


def test_reading_and_uploading_cost_nothing_but_are_told(make_limited: Callable[[int], Api]) -> None:
    api = make_limited(1)
    for _ in range(3):
        for answer in (api.get("/v1/models"), api.get("/v1/jobs/none"), api.upload(b"{}\n")):
            assert (answer.headers[LIMIT], answer.headers[REMAINING]) == ("1", "1")
    assert not _is_refused(api.post("/v1/jobs", json=JOB))
    assert _is_refused(api.post("/v1/jobs", json=JOB))
    assert api.get("/v1/models").status_code == 200


def test_without_a_tenant_nothing_is_said(app: Flask, admin: Api) -> None:
    for answer in (app.test_client().get("/healthz"), app.test_client().get("/v1/models"), admin.get("/v1/admin/keys")):
        assert LIMIT not in answer.headers


def test_one_tenants_requests_leave_the_others_theirs(make_limited: Callable[[int], Api]) -> None:
    greedy, modest = make_limited(1), make_limited(1)
    assert not _is_refused(greedy.post("/v1/jobs", json=JOB))
    assert _is_refused(greedy.post("/v1/jobs", json=JOB))
    assert not _is_refused(modest.post("/v1/jobs", json=JOB))


def test_a_changed_limit_holds_within_a_second(make_limited: Callable[[int], Api], admin: Api) -> None:
    api = make_limited(1)
    assert not _is_refused(api.post("/v1/jobs", json=JOB))
    assert _is_refused(api.post("/v1/jobs", json=JOB))
    _set(admin, _name(api, admin), 50)
    time.sleep(REMEMBERED_S)
    assert not _is_refused(api.post("/v1/jobs", json=JOB))


def test_processes_count_together_and_never_beyond(make_limited: Callable[[int], Api], wiring: Wiring) -> None:
    api = make_limited(20)
    both = [_over(create_app(wiring), api) for _ in range(2)]
    taken: list[bool] = []

    def send(place: int) -> None:
        own = _over(both[place % 2].client.application, api)
        taken.extend(not _is_refused(own.post("/v1/jobs", json=JOB)) for _ in range(6))

    threads = [threading.Thread(target=send, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), sum(taken)) == (36, 20)


@pytest.fixture
def proxied(wiring: Wiring) -> tuple[FaultProxy, Flask]:  # type: ignore[misc]  # a generator fixture
    """An API whose way to Redis can be broken."""
    with FaultProxy(urlsplit(wiring.settings.redis_url).port or 6379) as proxy:
        url = urlsplit(wiring.settings.redis_url)
        address = f"{url.netloc.rpartition(':')[0]}:{proxy.port}"
        settings = dataclasses.replace(wiring.settings, redis_url=url._replace(netloc=address).geturl())
        yield proxy, create_app(dataclasses.replace(wiring, settings=settings))


@pytest.mark.parametrize("fault", ["refuse", "hold_answers"])
def test_without_redis_requests_are_taken_limited_in_memory_and_hardly_slower(
    proxied: tuple[FaultProxy, Flask], make_limited: Callable[[int], Api], fault: str
) -> None:
    proxy, app = proxied
    api = _over(app, make_limited(4))
    assert api.post("/v1/jobs", json=JOB).headers[REMAINING] == "3"
    getattr(proxy, fault)()
    in_memory_before = RATES_IN_MEMORY._value.get()
    with structlog.testing.capture_logs() as logs:
        started = time.monotonic()
        answers = [api.post("/v1/jobs", json=JOB) for _ in range(6)]
        took_s = time.monotonic() - started
    assert [answer.status_code for answer in answers] == [202, 202, 202, 202, 429, 429]
    assert answers[0].headers[REMAINING] == "3"
    assert took_s < 6 * 2 * REDIS_TIMEOUT_S + 3  # one request waits for Redis, not each
    assert len([line for line in logs if line["event"] == "rates_counted_in_memory"]) == 1
    assert RATES_IN_MEMORY._value.get() == in_memory_before + 6


def test_it_counts_in_redis_again_by_itself(
    proxied: tuple[FaultProxy, Flask], make_limited: Callable[[int], Api]
) -> None:
    proxy, app = proxied
    api = _over(app, make_limited(4))
    assert not _is_refused(api.post("/v1/jobs", json=JOB))
    proxy.refuse()
    while not _is_refused(api.post("/v1/jobs", json=JOB)):
        pass
    proxy.heal()
    deadline = time.monotonic() + 15
    while api.get("/v1/models").headers[REMAINING] != "3":
        assert time.monotonic() < deadline, "it still counts in memory"
        time.sleep(0.2)
    assert not _is_refused(api.post("/v1/jobs", json=JOB))
