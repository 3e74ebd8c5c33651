"""A tenant whose synchronous requests hold its share of the threads is refused at once, and others are not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from core_machine import CoreMachine, core_machine
from flask import Flask
from tenant_api import Api

from app.api import held_slots
from app.factory import create_app
from app.services.create_api_key import create_api_key

SAID = [{"role": "user", "content": "hello"}]
VERSION = {"anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core without workers: whoever gets so far is told that nobody serves the model."""
    with core_machine(servers) as machine:
        yield machine


@pytest.fixture(scope="module")
def app(core: CoreMachine) -> Flask:
    """The API over it."""
    return create_app(core.wiring)


def tenant_api(app: Flask, core: CoreMachine, tenant: str) -> Api:
    issued = create_api_key(wiring=core.wiring, tenant=tenant)
    return Api(app.test_client(), issued.key, issued.key_id)


@pytest.mark.parametrize(
    ("path", "body", "headers", "no_worker"),
    [
        ("/v1/embeddings", {"model": "all-MiniLM-L6-v2", "input": "a"}, {}, 503),
        ("/v1/chat/completions", {"model": "echo", "messages": SAID}, {}, 503),
        (
            "/v1/messages",
            {"model": "echo", "max_tokens": 9, "messages": SAID},
            {"anthropic-version": "2023-06-01"},
            529,
        ),
    ],
)
def test_a_tenant_that_holds_its_share_is_refused_and_others_are_not(
    app: Flask, core: CoreMachine, path: str, body: dict[str, Any], headers: dict[str, str], no_worker: int
) -> None:
    api, other = tenant_api(app, core, "tester"), tenant_api(app, core, "somebody else")
    core.sql("DELETE FROM workers")
    with ExitStack() as under_way, app.app_context():
        for _ in range(core.wiring.settings.api_threads // 2):
            under_way.enter_context(held_slots.take(core.tenant_id, held_slots.MODEL))
        refused = api.post(path, json=body, headers=headers)
        assert (refused.status_code, refused.json["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        assert api.get("/v1/jobs").status_code == 200
        assert other.post(path, json=body, headers=headers).status_code == no_worker
    assert api.post(path, json=body, headers=headers).status_code == no_worker
