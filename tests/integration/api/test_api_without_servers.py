"""The API with backing services down: it starts, says so, and refuses with a time to come back."""

from __future__ import annotations

import dataclasses

import pytest
from tenant_api import Api

from app.db.session import Database
from app.factory import create_app
from app.storage.s3 import S3Store
from app.wiring import Wiring

NOWHERE = "127.0.0.1:1"


def _broken(wiring: Wiring, what: str) -> Wiring:
    settings = dataclasses.replace(
        wiring.settings,
        broker_url=f"amqp://nobody:nothing@{NOWHERE}/x" if what == "broker" else wiring.settings.broker_url,
        redis_url=f"redis://{NOWHERE}/0" if what == "redis" else wiring.settings.redis_url,
        s3_endpoint=f"http://{NOWHERE}" if what == "object_store" else wiring.settings.s3_endpoint,
    )
    database = wiring.database
    if what == "postgres":
        database = Database.connect(f"postgresql+psycopg2://x:y@{NOWHERE}/z", connect_timeout_s=1)
    return Wiring(settings, wiring.models, database, S3Store.from_settings(settings), wiring.webhook_sender)


@pytest.mark.parametrize("what", ["broker", "redis"])
def test_jobs_are_accepted_without_broker_or_redis(wiring: Wiring, api: Api, what: str) -> None:
    client = create_app(_broken(wiring, what)).test_client()
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a"]}
    assert client.post("/v1/jobs", json=body, headers={"X-Api-Key": api.key}).status_code == 202
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["status"]) == (200, "degraded")
    (down,) = [service for service in ready.json["services"] if service["status"] == "down"]
    assert (down["name"], down["required"]) == (what, False)
    assert "nothing" not in ready.text


@pytest.mark.parametrize("what", ["postgres", "object_store"])
def test_without_what_it_stands_on_it_is_not_ready_and_says_when_to_come_back(
    wiring: Wiring, api: Api, what: str
) -> None:
    client = create_app(_broken(wiring, what)).test_client()
    assert client.get("/healthz").status_code == 200
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json["status"]) == (503, "unavailable")
    body = {"endpoint": "/v1/echo", "model": "echo", "inputs": ["a"]}
    refused = client.post("/v1/jobs", json=body, headers={"X-Api-Key": api.key})
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= 120
    assert refused.json["error"]["retryable"] is True
