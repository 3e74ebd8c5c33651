"""``/v1/webhook_endpoints`` and ``/v1/webhook_deliveries`` as tenants see them, and the ``webhook`` of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from core_machine import CoreMachine, core_machine
from flask import Flask
from openai.types.webhooks import WebhookEndpoint, WebhookEndpointTestResult, WebhookEndpointWithSecret
from standardwebhooks import Webhook
from tenant_api import Api
from webhook_receiver import Reply, WebhookReceiver, webhook_receiver

from app.api import held_slots
from app.domain.webhooks import EVENT_TYPES, JOB_END_EVENTS
from app.factory import create_app
from app.services.create_api_key import create_api_key
from app.services.create_webhook_endpoint import MOST_ENDPOINTS
from app.services.deliver_webhooks import deliver_webhooks

PATH = "/v1/webhook_endpoints"


@pytest.fixture(scope="module")
def core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core whose operator trusts loopback and nothing else."""
    with core_machine(servers, webhook_receivers=("127.0.0.0/8",), webhook_timeout_s=1.0) as machine:
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
def other(app: Flask, core: CoreMachine) -> Api:
    """Another tenant."""
    issued = create_api_key(wiring=core.wiring, tenant="somebody else")
    return Api(app.test_client(), issued.key, issued.key_id)


@pytest.fixture(autouse=True)
def _no_other_endpoint(core: CoreMachine) -> Iterator[None]:
    yield
    core.sql("UPDATE webhook_endpoints SET deleted_at = now() WHERE deleted_at IS NULL")


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as made:
        yield made


def body_of(url: str = "https://93.184.215.14/hook", **fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "url": url, "event_types": ["job.succeeded", "batch.completed"], **fields}


def made(api: Api, **fields: Any) -> dict[str, Any]:
    answer = api.post(PATH, json=body_of(**fields))
    assert answer.status_code == 200, answer.json
    return dict(answer.json)


def test_an_endpoint_is_made_shown_listed_changed_and_deleted(api: Api) -> None:
    created = WebhookEndpointWithSecret.model_validate(made(api), strict=True)
    path = f"{PATH}/{created.id}"
    shown = api.get(path).json
    assert WebhookEndpoint.model_validate(shown, strict=True).name == "nightly"
    assert "signing_secret" not in shown
    assert created.signing_secret.rstrip("=").endswith(shown["signing_secret_hint"][-4:])
    changed = api.post(path, json={"event_types": ["job.failed"]}).json
    assert (changed["event_types"], changed["url"]) == (["job.failed"], created.url)
    assert [one["id"] for one in api.get(PATH).json["data"]] == [created.id]
    gone = api.delete(path).json
    assert gone == {"id": created.id, "object": "webhook_endpoint.deleted", "deleted": True}
    assert api.get(path).status_code == 404
    assert api.get(PATH).json["data"] == []


def test_the_list_is_walked_by_id_newest_first(api: Api) -> None:
    ids = [made(api)["id"] for _ in range(3)]
    first = api.get(f"{PATH}?limit=2").json
    rest = api.get(f"{PATH}?limit=2&after={first['last_id']}").json
    assert [one["id"] for one in first["data"] + rest["data"]] == ids[::-1]
    assert (first["has_more"], rest["has_more"]) == (True, False)


def test_an_unchanged_endpoint_keeps_its_time(api: Api, core: CoreMachine) -> None:
    endpoint_id = made(api)["id"]
    core.sql("UPDATE webhook_endpoints SET updated_at = updated_at - interval '1 hour' WHERE id = :id", id=endpoint_id)
    before = api.get(f"{PATH}/{endpoint_id}").json["updated_at"]
    assert api.post(f"{PATH}/{endpoint_id}", json={"name": "nightly"}).json["updated_at"] == before
    assert api.post(f"{PATH}/{endpoint_id}", json={"name": "other"}).json["updated_at"] > before


def test_making_it_again_with_the_same_key_gives_the_same_secret(api: Api) -> None:
    headers = {"Idempotency-Key": "make-the-endpoint"}
    first, again = (api.post(PATH, json=body_of(), headers=headers) for _ in range(2))
    assert (first.json, again.headers["idempotent-replayed"]) == (again.json, "true")
    path = f"{PATH}/{first.json['id']}/rotate_secret"
    first, again = (api.post(path, json={}, headers=headers) for _ in range(2))
    assert first.json["signing_secret"] == again.json["signing_secret"]


def test_another_tenant_finds_none_of_it(api: Api, other: Api) -> None:
    path = f"{PATH}/{made(api)['id']}"
    answers = [
        other.get(path),
        other.delete(path),
        other.post(path, json={"name": "x"}),
        other.post(f"{path}/rotate_secret"),
        other.post(f"{path}/test", json={"event_type": "job.failed"}),
        other.get(f"{PATH}?after={path.rpartition('/')[2]}"),
    ]
    assert [answer.status_code for answer in answers] == [404] * len(answers)
    assert other.get(PATH).json["data"] == []
    assert api.get(path).status_code == 200


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"url": "https://10.0.0.1/"}, "url", "webhook_receiver_refused"),
        ({"url": "https://[::1]/"}, "url", "webhook_receiver_refused"),
        ({"url": "https://169.254.169.254/latest"}, "url", "webhook_receiver_refused"),
        ({"url": "https://2852039166/"}, "url", "webhook_receiver_refused"),
        ({"url": "http://93.184.215.14/"}, "url", "webhook_receiver_refused"),
        ({"url": "https://93.184.215.14:22/"}, "url", "webhook_receiver_refused"),
        ({"url": "nonsense"}, "url", "webhook_receiver_refused"),
        ({"event_types": ["job.exploded"]}, "event_types[0]", "invalid_value"),
        ({"event_types": []}, "event_types", "invalid_value"),
        ({"event_types": ["job.failed", "job.failed"]}, "event_types", "invalid_value"),
        ({"name": " "}, "name", "invalid_value"),
        ({"colour": "red"}, "colour", "unknown_parameter"),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(api: Api, fields: dict[str, Any], param: str, code: str) -> None:
    answer = api.post(PATH, json=body_of(**fields))
    assert (answer.status_code, answer.json["error"]["param"], answer.json["error"]["code"]) == (400, param, code)


def test_a_change_to_a_private_address_is_refused_as_well(api: Api) -> None:
    answer = api.post(f"{PATH}/{made(api)['id']}", json={"url": "https://10.0.0.1/"})
    assert answer.json["error"]["code"] == "webhook_receiver_refused"


def test_there_is_an_end_to_how_many_a_tenant_may_have(api: Api) -> None:
    for _ in range(MOST_ENDPOINTS):
        made(api)
    assert api.post(PATH, json=body_of()).status_code == 400


def test_the_events_are_listed(api: Api) -> None:
    assert api.get("/v1/webhook_event_types").json == {"object": "list", "data": list(EVENT_TYPES)}


def test_a_sample_is_sent_at_once_and_signed(api: Api, receiver: WebhookReceiver) -> None:
    endpoint = made(api, url=receiver.url)
    receiver.reply = lambda _: Reply(418)
    answer = api.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "batch.failed"})
    result = WebhookEndpointTestResult.model_validate(answer.json, strict=True)
    assert (result.status_code, result.event_type) == (418, "batch.failed")
    (got,) = receiver.received
    assert Webhook(endpoint["signing_secret"]).verify(got.body, got.headers)["type"] == "batch.failed"


def test_a_sample_that_gets_no_answer_says_why(api: Api) -> None:
    endpoint = made(api, url="http://127.0.0.1:9/")
    answer = api.post(f"{PATH}/{endpoint['id']}/test", json={"event_type": "job.failed"})
    assert (answer.status_code, answer.json["error"]["code"]) == (424, "webhook_receiver_unreachable")
    assert "connection_failed" in answer.json["error"]["message"]


def test_a_tenant_whose_samples_hold_its_share_of_the_threads_is_refused_and_others_are_not(
    app: Flask, api: Api, other: Api, core: CoreMachine, receiver: WebhookReceiver
) -> None:
    endpoint, others = made(api, url=receiver.url), made(other, url=receiver.url)
    sample = {"event_type": "job.failed"}
    with ExitStack() as under_way, app.app_context():
        for _ in range(core.wiring.settings.api_threads // 4):
            under_way.enter_context(held_slots.take(core.tenant_id, held_slots.RECEIVER))
        refused = api.post(f"{PATH}/{endpoint['id']}/test", json=sample)
        assert (refused.status_code, refused.json["error"]["code"]) == (429, "too_many_at_once")
        assert 1 <= int(refused.headers["Retry-After"]) <= 120
        assert api.get(PATH).status_code == 200
        assert other.post(f"{PATH}/{others['id']}/test", json=sample).status_code == 200
    assert api.post(f"{PATH}/{endpoint['id']}/test", json=sample).status_code == 200


def test_a_job_shows_its_webhook_and_tells_the_secret_once(api: Api) -> None:
    webhook = {"url": "https://93.184.215.14/jobs"}
    body = {"endpoint": "/v1/echo", "model": "echo", "input": "a", "webhook": webhook}
    headers = {"Idempotency-Key": "a-job-with-a-webhook"}
    first, again = (api.post("/v1/jobs", json=body, headers=headers).json for _ in range(2))
    assert first == again
    assert first["webhook"]["signing_secret"].startswith("whsec_")
    assert first["webhook"]["events"] == list(JOB_END_EVENTS)
    assert api.get(f"/v1/jobs/{first['id']}").json["webhook"] == {**webhook, "events": list(JOB_END_EVENTS)}
    assert api.post("/v1/jobs", json={**body, "webhook": None}).json["webhook"] is None


@pytest.mark.parametrize(
    ("webhook", "param"),
    [
        ({"url": "https://10.0.0.1/"}, "webhook.url"),
        ({"url": "https://93.184.215.14/", "events": ["x"]}, "webhook.events[0]"),
        ({"events": ["job.failed"]}, "webhook.url"),
        ("https://93.184.215.14/", "webhook"),
    ],
)
def test_a_job_with_a_wrong_webhook_is_refused(api: Api, core: CoreMachine, webhook: Any, param: str) -> None:
    (before,) = core.sql("SELECT count(*) AS n FROM jobs")
    body = {"endpoint": "/v1/echo", "model": "echo", "input": "a", "webhook": webhook}
    answer = api.post("/v1/jobs", json=body)
    assert (answer.status_code, answer.json["error"]["param"]) == (400, param)
    assert core.sql("SELECT count(*) AS n FROM jobs") == [before]


def test_a_batch_and_a_schedule_take_a_webhook(api: Api) -> None:
    file_id = api.upload(b'{"custom_id": "a", "method": "POST", "url": "/v1/echo", "body": {"input": "a"}}\n').json[
        "id"
    ]
    webhook = {"url": "https://93.184.215.14/", "events": ["batch.completed"]}
    batch = {"input_file_id": file_id, "endpoint": "/v1/echo", "completion_window": "24h"}
    batch_id = api.post("/v1/batches", json={**batch, "nightshift": {"model": "echo", "webhook": webhook}}).json["id"]
    assert api.get(f"/v1/jobs/{batch_id}").json["webhook"] == webhook
    job = {"endpoint": "/v1/echo", "model": "echo", "webhook": webhook}
    schedule = {"name": "n", "cron": "0 0 * * *", "source": {"file_id": file_id}, "job": job}
    made_schedule = api.post("/v1/schedules", json=schedule).json
    assert made_schedule["job"]["webhook"] == webhook
    run = api.post(f"/v1/schedules/{made_schedule['id']}/run").json
    assert api.get(f"/v1/jobs/{run['job_ids'][0]}").json["webhook"] == webhook
    refused = api.post("/v1/schedules", json={**schedule, "job": {**job, "webhook": {"url": "https://10.0.0.1/"}}})
    assert refused.json["error"]["param"] == "job.webhook.url"


def test_deliveries_tell_what_came_of_every_attempt_and_never_what_was_answered(
    api: Api, other: Api, core: CoreMachine, receiver: WebhookReceiver
) -> None:
    endpoint = made(api, url=receiver.url)
    receiver.reply = lambda _: Reply(500, body=b"a secret of the receiver")
    job_id = api.post("/v1/jobs", json={"endpoint": "/v1/echo", "model": "echo", "input": "a"}).json["id"]
    core.drive(job_id)
    (found,) = api.get(f"/v1/webhook_deliveries?job_id={job_id}").json["data"]
    assert (found["state"], found["attempts"], found["event_type"]) == ("pending", [], "job.succeeded")
    assert deliver_webhooks(wiring=core.wiring, delivery_id=found["id"]) == 0
    answer = api.get(f"/v1/webhook_deliveries?job_id={job_id}&endpoint_id={endpoint['id']}&state=pending")
    (found,) = answer.json["data"]
    (attempt,) = found["attempts"]
    assert (attempt["status"], attempt["error"]) == (500, None)
    assert found["event_id"] == receiver.ids[0]
    assert found["next_attempt_at"] > attempt["at"]
    assert b"secret" not in answer.data
    assert other.get("/v1/webhook_deliveries").json["data"] == []
    assert api.get("/v1/webhook_deliveries?state=delivered").json["data"] == []
    assert api.get("/v1/webhook_deliveries?job_id=job_x").status_code == 404
