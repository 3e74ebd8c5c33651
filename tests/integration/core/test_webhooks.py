"""What becomes of jobs is told, once for each receiver, and whatever receivers do changes nothing about jobs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from core_machine import CoreMachine, Row, core_machine
from seeded_work import SeededItem, expected_of, failing, good
from sqlalchemy import func, select
from standardwebhooks import Webhook
from webhook_receiver import Reply, WebhookReceiver, webhook_receiver

from app.db.repositories.jobs import Jobs
from app.db.repositories.tenants import Tenants
from app.db.repositories.webhook_deliveries import NO_ANSWER, OTHERS_FAULT, WebhookDeliveries
from app.db.tables import webhook_deliveries
from app.domain.jobs import Dialect, JobWebhook
from app.domain.states import JobState
from app.domain.webhooks import EVENT_TYPES, JOB_END_EVENTS, JOB_EVENTS, EndpointWithSecret
from app.services.cancel_job import cancel_job
from app.services.change_webhook_endpoint import change_webhook_endpoint
from app.services.create_webhook_endpoint import create_webhook_endpoint
from app.services.delete_webhook_endpoint import delete_webhook_endpoint
from app.services.deliver_webhooks import deliver_webhooks
from app.services.dispatch import RECEIVERS_AT_ONCE
from app.services.retry_job import retry_job
from app.services.rotate_webhook_secret import rotate_webhook_secret
from app.services.sweep_expired import sweep_expired
from app.services.tell_progress import tell_progress
from app.services.webhook_secrets import job_webhook_secret
from app.webhook_metrics import WebhookCollector

PATIENCE_S = 3_600
PROGRESS_S = 60


@pytest.fixture(scope="module")
def module_core(servers: dict[str, str]) -> Iterator[CoreMachine]:
    """A core that may tell receivers on loopback; chunks of four items."""
    with core_machine(
        servers,
        chunk_max_items=4,
        webhook_receivers=("127.0.0.0/8",),
        webhook_timeout_s=1.0,
        webhook_patience_s=PATIENCE_S,
        webhook_progress_s=PROGRESS_S,
    ) as machine:
        yield machine


@pytest.fixture(autouse=True)
def _no_other_endpoint(core: CoreMachine) -> Iterator[None]:
    yield
    core.sql("UPDATE webhook_endpoints SET deleted_at = now() WHERE deleted_at IS NULL")
    core.sql("DELETE FROM webhook_deliveries")


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with webhook_receiver() as made:
        yield made


def register(core: CoreMachine, url: str, *event_types: str, tenant_id: str | None = None) -> EndpointWithSecret:
    return create_webhook_endpoint(
        wiring=core.wiring,
        tenant_id=tenant_id or core.tenant_id,
        name="test",
        url=url,
        event_types=event_types or JOB_EVENTS,
    )


def ended_job(core: CoreMachine, *items: SeededItem, **fields: Any) -> str:
    job_id = core.planned(items or [good("a"), good("b")], **fields)
    core.drive(job_id)
    return job_id


def deliveries(core: CoreMachine, job_id: str | None = None) -> list[Row]:
    """In the order in which they came about."""
    rows = core.sql("SELECT * FROM webhook_deliveries ORDER BY created_at, id")
    return [row for row in rows if job_id in {None, row["job_id"]}]


def told(core: CoreMachine, job_id: str) -> list[str]:
    return sorted(row["event_type"] for row in deliveries(core, job_id))


def deliver_due(core: CoreMachine) -> int:
    """What a webhook worker does with what the dispatcher sends it; gives how many were taken."""
    core.look()
    published = core.publisher.webhooks.copy()
    core.publisher.webhooks.clear()
    return sum(deliver_webhooks(wiring=core.wiring, delivery_id=delivery_id) for delivery_id in published)


def pause_passes(core: CoreMachine) -> None:
    core.sql("UPDATE webhook_deliveries SET next_attempt_at = now() WHERE state = 'pending'")
    core.dispatcher._webhooks.due([])


# -- what is told


def test_an_end_is_told_to_the_endpoint_that_asked_for_it(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, "job.partially_succeeded")
    job_id = ended_job(core, good("a"), failing("b"), metadata={"team": "loans"})
    assert deliver_due(core) == 1
    event = receiver.received[0].event
    assert (event["type"], event["object"], event["data"]["id"]) == ("job.partially_succeeded", "event", job_id)
    assert event["data"]["metadata"] == {"team": "loans"}
    counts = event["data"]["counts"]
    assert (counts["total"], counts["succeeded"], counts["failed"]) == (2, 1, 1)
    assert event["id"] == receiver.received[0].id


def test_a_batch_tells_in_both_dialects(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, *EVENT_TYPES)
    job_id = core.submit_batch([good("a"), failing("b")])
    core.drive(job_id)
    assert told(core, job_id) == ["batch.completed", "job.partially_succeeded"]


def test_a_refused_input_fails_a_batch_and_items_that_all_failed_do_not(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url, *EVENT_TYPES)
    refused = core.submit_content(b"this is no JSON\n")
    core.prepare(refused)
    failed = core.submit_batch([failing("a")])
    core.drive(failed)
    assert told(core, refused) == ["batch.failed", "job.failed"]
    assert told(core, failed) == ["batch.completed", "job.failed"]


def test_a_cancelled_and_an_expired_job_tell(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, *EVENT_TYPES)
    cancelled, expired = core.planned([good("a")]), core.submit_batch([good("a")])
    cancel_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=cancelled)
    core.drive(cancelled)
    core.prepare(expired)
    core.window_closes(expired)
    core.drive(expired)
    assert told(core, cancelled) == ["job.cancelled"]
    assert told(core, expired) == ["batch.expired", "job.expired"]


def test_a_job_that_is_held_tells(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    job_id = core.planned([good("a")])
    core.sql("UPDATE jobs SET state = 'running' WHERE id = :id", id=job_id)
    with core.wiring.database.begin() as connection:
        jobs = Jobs(connection)
        jobs.change_state(jobs.lock(job_id), JobState.HELD)
    assert told(core, job_id) == ["job.held"]


def test_what_is_told_is_committed_with_the_end_or_not_at_all(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    job_id = core.planned([good("a")])
    with core.wiring.database.engine.connect() as connection:
        jobs = Jobs(connection)
        jobs.change_state(jobs.lock(job_id), JobState.FINALIZING)
        jobs.change_state(jobs.lock(job_id), JobState.SUCCEEDED)
        assert connection.execute(select(func.count()).select_from(webhook_deliveries)).scalar_one() == 1
        connection.rollback()
    assert deliveries(core, job_id) == []
    core.drive(job_id)
    assert told(core, job_id) == ["job.succeeded"]


def test_a_retried_job_tells_its_new_end_under_another_id(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    job_id = ended_job(core, good("a"), failing("b"))
    retry_job(wiring=core.wiring, tenant_id=core.tenant_id, job_id=job_id)
    core.drive(job_id)
    first, second = deliveries(core, job_id)
    assert first["event_id"] != second["event_id"]


def test_nobody_is_told_of_another_tenants_jobs_or_of_what_they_did_not_ask_for(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    with core.wiring.database.begin() as connection:
        other = Tenants(connection).id_of("another")
    register(core, receiver.url, tenant_id=other)
    register(core, receiver.url, "job.failed")
    assert deliveries(core, ended_job(core)) == []


# -- the receiver that a job names


def test_a_job_tells_the_receiver_that_it_names_itself(core: CoreMachine, receiver: WebhookReceiver) -> None:
    webhook = JobWebhook(url=receiver.url, events=JOB_END_EVENTS)
    ended_job(core, webhook=webhook)
    assert deliver_due(core) == 1
    (got,) = receiver.received
    secret = job_webhook_secret(core.wiring.settings, core.tenant_id, webhook)
    assert Webhook(secret or "").verify(got.body, got.headers)["type"] == "job.succeeded"


def test_only_of_the_events_that_it_names(core: CoreMachine, receiver: WebhookReceiver) -> None:
    webhook = JobWebhook(url=receiver.url, events=("batch.completed",))
    job_id = core.submit_content(good("a").line(endpoint="/v1/echo"), webhook=webhook)
    core.drive(job_id)
    assert told(core, job_id) == ["batch.completed"]
    assert deliveries(core, ended_job(core, webhook=webhook)) == []


def test_an_address_that_is_registered_as_well_is_told_once_and_signed_with_its_own_secret(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    registered = register(core, receiver.url, "job.succeeded")
    webhook = JobWebhook(url=receiver.url, events=JOB_END_EVENTS)
    ended_job(core, webhook=webhook)
    ended_job(core, failing("a"), webhook=webhook)
    assert deliver_due(core) == 2
    assert receiver.types == ["job.succeeded", "job.failed"]
    for got in receiver.received:
        Webhook(registered.secret).verify(got.body, got.headers)


def test_the_members_of_a_group_tell(core: CoreMachine, receiver: WebhookReceiver) -> None:
    group_id = core.submit_group(
        b"".join(good(name).line() for name in "ab"),
        model="echo",
        webhook=JobWebhook(url=receiver.url, events=JOB_END_EVENTS),
    )
    core.drive_group(group_id)
    assert deliver_due(core) == 1
    assert receiver.received[0].event["data"]["group_id"] == group_id


# -- what receivers do


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_receiver_that_refuses_is_asked_again_later_under_the_same_id(
    core: CoreMachine, receiver: WebhookReceiver, status: int
) -> None:
    register(core, receiver.url)
    receiver.reply = lambda _: Reply(status, {"Location": receiver.url}, b"do not keep this")
    items = [good("a"), good("b")]
    job_id = ended_job(core, *items)
    assert deliver_due(core) == 0
    assert deliver_due(core) == 0  # its pause has not passed
    receiver.reply = lambda _: Reply()
    pause_passes(core)
    assert deliver_due(core) == 1
    assert len(receiver.received) == 2
    assert len(set(receiver.ids)) == 1
    (row,) = deliveries(core, job_id)
    assert [(attempt["status"], attempt["error"]) for attempt in row["attempts"]] == [(status, None), (200, None)]
    assert (row["state"], "do not keep" in str(row)) == ("delivered", False)
    assert core.job(job_id).state is JobState.SUCCEEDED
    core.checker.check_job(job_id, expected_of(items))


def test_so_is_one_that_does_not_answer_in_time_or_is_not_there(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    register(core, "http://127.0.0.1:9/")
    receiver.reply = lambda _: Reply(delay_s=2)
    job_id = ended_job(core)
    assert deliver_due(core) == 0
    errors = {row["attempts"][0]["error"] for row in deliveries(core, job_id)}
    assert errors == {"timeout", "connection_failed"}
    assert {row["state"] for row in deliveries(core, job_id)} == {"pending"}


def test_an_address_that_was_allowed_once_is_refused_at_the_connection(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    job_id = ended_job(core)
    core.sql("UPDATE webhook_deliveries SET url = 'http://10.0.0.1/'")
    assert deliver_due(core) == 0
    assert deliveries(core, job_id)[0]["attempts"][0]["error"] == "receiver_refused"


def test_a_dead_receiver_is_asked_once_and_not_for_each_event_and_hears_all_once_it_is_back(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    receiver.reply = lambda _: Reply(503)
    for _ in range(4):
        ended_job(core)
    assert deliver_due(core) == 0
    assert len(receiver.received) == 1
    receiver.reply = lambda _: Reply()
    core.sql(
        "UPDATE webhook_deliveries SET next_attempt_at = now() WHERE id ="
        " (SELECT id FROM webhook_deliveries WHERE state = 'pending' ORDER BY created_at LIMIT 1)"
    )
    core.dispatcher._webhooks.due([])
    assert deliver_due(core) == 4
    assert len(set(receiver.ids)) == 4


def test_pauses_grow_until_the_delivery_is_given_up(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    receiver.reply = lambda _: Reply(500)
    job_id = ended_job(core)
    pauses = []
    for _ in range(3):
        deliver_due(core)
        (row,) = deliveries(core, job_id)
        pauses.append(core.sql("SELECT next_attempt_at - now() AS pause FROM webhook_deliveries")[0]["pause"])
        pause_passes(core)
    assert pauses == sorted(pauses)
    assert pauses[0] < timedelta(seconds=6) < pauses[2]
    core.sql("UPDATE webhook_deliveries SET created_at = now() - make_interval(secs => :s)", s=PATIENCE_S)
    deliver_due(core)
    (row,) = deliveries(core, job_id)
    assert (row["state"], len(row["attempts"]), row["ended_at"] is not None) == ("failed", 4, True)


def test_what_waited_as_long_for_a_receiver_is_given_up_with_what_it_did_not_take(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    receiver.reply = lambda _: Reply(500)
    old = [ended_job(core) for _ in range(3)]
    core.sql("UPDATE webhook_deliveries SET created_at = now() - make_interval(secs => :s)", s=PATIENCE_S)
    core.sql("UPDATE webhook_deliveries SET n_attempts = :n WHERE job_id = :id", n=OTHERS_FAULT, id=old[0])
    new = ended_job(core)
    core.sql("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 s' WHERE job_id = :id", id=old[0])
    deliver_due(core)
    assert [row["state"] for job_id in old for row in deliveries(core, job_id)] == ["failed"] * 3
    assert [row["state"] for row in deliveries(core, new)] == ["pending"]
    assert len(receiver.received) == 1
    reasons = [
        attempt["error"] for job_id in old[1:] for row in deliveries(core, job_id) for attempt in row["attempts"]
    ]
    assert reasons == [NO_ANSWER] * 2


# -- who sends


def test_of_two_senders_at_once_one_sends(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    receiver.reply = lambda _: Reply(delay_s=0.3)
    (row,) = deliveries(core, ended_job(core))
    with ThreadPoolExecutor(4) as pool:
        taken = pool.map(lambda _: deliver_webhooks(wiring=core.wiring, delivery_id=row["id"]), range(4))
    assert sorted(taken) == [0, 0, 0, 1]
    assert len(receiver.received) == 1


def test_what_a_sender_that_died_had_begun_is_sent_again_under_the_same_id(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    (row,) = deliveries(core, ended_job(core))
    with core.wiring.database.begin() as connection:
        assert WebhookDeliveries(connection).claim(row["id"], claim_s=30)
    assert deliver_due(core) == 0
    core.sql("UPDATE webhook_deliveries SET claimed_until = now()")
    assert deliver_due(core) == 1
    assert receiver.ids == [row["event_id"]]


def test_a_sender_that_was_given_up_does_not_overwrite_who_came_after_it(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    (row,) = deliveries(core, ended_job(core))

    def meanwhile(_: Any) -> Reply:
        if len(receiver.received) == 1:
            core.sql("UPDATE webhook_deliveries SET claimed_until = now()")
            deliver_webhooks(wiring=core.wiring, delivery_id=row["id"])
            return Reply(500)
        return Reply()

    receiver.reply = meanwhile
    deliver_webhooks(wiring=core.wiring, delivery_id=row["id"])
    (row,) = deliveries(core)
    assert (row["state"], [attempt["status"] for attempt in row["attempts"]]) == ("delivered", [200])


def test_one_tenants_many_receivers_do_not_take_all_senders(core: CoreMachine) -> None:
    for port in range(1, RECEIVERS_AT_ONCE + 4):
        register(core, f"http://127.0.0.1:{port}/")
    rows = deliveries(core, ended_job(core))
    core.look()
    assert len(core.publisher.webhooks) == RECEIVERS_AT_ONCE
    with core.wiring.database.begin() as connection:
        repository = WebhookDeliveries(connection)
        for delivery_id in core.publisher.webhooks[:3]:
            assert repository.claim(delivery_id, claim_s=30)
        assert len(repository.due(at_once_per_tenant=RECEIVERS_AT_ONCE, limit=100)) == 1
        assert len(repository.due(at_once_per_tenant=100, limit=100)) == len(rows) - 3


def test_a_delivery_is_published_again_while_nobody_takes_it(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    ended_job(core)
    core.look()
    core.look()
    assert len(core.publisher.webhooks) == 1
    core.dispatcher._webhooks.due([])
    core.look()
    assert len(set(core.publisher.webhooks)) == 1


# -- endpoints that change


def test_both_secrets_sign_while_the_old_one_is_kept(core: CoreMachine, receiver: WebhookReceiver) -> None:
    first = register(core, receiver.url)
    rotate = {"wiring": core.wiring, "tenant_id": core.tenant_id, "endpoint_id": first.endpoint.id}
    second = rotate_webhook_secret(**rotate, keep_old=True)
    ended_job(core)
    deliver_due(core)
    for secret in (first.secret, second.secret):
        Webhook(secret).verify(receiver.received[0].body, receiver.received[0].headers)
    third = rotate_webhook_secret(**rotate, keep_old=False)
    ended_job(core)
    deliver_due(core)
    headers = receiver.received[1].headers
    Webhook(third.secret).verify(receiver.received[1].body, headers)
    assert len(headers["webhook-signature"].split()) == 1


def test_secrets_are_not_readable_in_the_database(core: CoreMachine, receiver: WebhookReceiver) -> None:
    made = register(core, receiver.url)
    (row,) = core.sql("SELECT * FROM webhook_endpoints WHERE id = :id", id=made.endpoint.id)
    assert made.secret not in str(row)
    assert made.secret.encode() not in bytes(row["sealed_secret"])


def test_a_secret_that_cannot_be_opened_any_more_leaves_a_line_in_the_log_of_deliveries(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url)
    (row,) = deliveries(core, ended_job(core))
    settings = replace(core.wiring.settings, key_pepper="another")
    deliver_webhooks(wiring=replace(core.wiring, settings=settings), delivery_id=row["id"])
    (row,) = deliveries(core)
    assert (row["state"], row["attempts"][0]["error"]) == ("pending", "secret_unreadable")
    assert receiver.received == []


def test_what_is_still_to_be_told_follows_an_endpoint_to_its_new_address_and_goes_with_it(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    made = register(core, "http://127.0.0.1:9/")
    endpoint = {"wiring": core.wiring, "tenant_id": core.tenant_id, "endpoint_id": made.endpoint.id}
    ended_job(core)
    deliver_due(core)
    change_webhook_endpoint(**endpoint, changes={"url": receiver.url})
    pause_passes(core)
    assert deliver_due(core) == 1
    job_id = ended_job(core)
    delete_webhook_endpoint(**endpoint)
    assert deliver_due(core) == 0
    assert [row["state"] for row in deliveries(core, job_id)] == ["dropped"]


# -- progress


def test_progress_is_told_now_and_then_while_chunks_end(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, "job.progress")
    job_id = core.planned([good(f"item-{n}") for n in range(12)])
    assert tell_progress(wiring=core.wiring) == 0
    chunks = core.granted(job_id)
    core.run(chunks[0])
    assert tell_progress(wiring=core.wiring) == 1
    core.run(chunks[1])
    assert deliver_due(core) == 1
    assert tell_progress(wiring=core.wiring) == 0  # it is too soon
    core.sql("UPDATE webhook_deliveries SET created_at = now() - make_interval(secs => :s)", s=PROGRESS_S)
    core.sql("UPDATE chunks SET finished_at = now() WHERE id = :id", id=chunks[1])
    assert tell_progress(wiring=core.wiring) == 1
    deliver_due(core)
    assert [got.event["data"]["counts"]["succeeded"] for got in receiver.received] == [4, 8]


def test_a_dead_receiver_of_progress_silences_nobody_and_hears_of_the_last_when_it_is_back(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    register(core, receiver.url, "job.progress")
    with webhook_receiver() as dead:
        register(core, dead.url, "job.progress")
        dead.reply = lambda _: Reply(503)
        job_id = core.planned([good(f"item-{n}") for n in range(12)])
        for chunk_id in core.granted(job_id):
            core.run(chunk_id)
            core.sql("UPDATE chunks SET finished_at = now() WHERE id = :id", id=chunk_id)
            assert tell_progress(wiring=core.wiring) == 1
            deliver_due(core)
            core.sql("UPDATE webhook_deliveries SET created_at = now() - make_interval(secs => :s)", s=PROGRESS_S)
        assert [got.event["data"]["counts"]["succeeded"] for got in receiver.received] == [4, 8]
        assert len(dead.received) == 1, "what it did not take makes it wait"
        dead.reply = lambda _: Reply()
        pause_passes(core)
        assert deliver_due(core) == 1
        assert dead.received[-1].event["data"]["counts"]["succeeded"] == 8


def test_nobody_hears_of_progress_who_did_not_ask(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, *JOB_END_EVENTS)
    job_id = core.planned([good(f"item-{n}") for n in range(8)])
    core.run(core.granted(job_id)[0])
    assert tell_progress(wiring=core.wiring) == 0
    named = core.planned(
        [good(f"item-{n}") for n in range(8)], webhook=JobWebhook(url=receiver.url, events=("job.progress",))
    )
    core.run(core.granted(named)[0])
    assert tell_progress(wiring=core.wiring) == 1
    assert told(core, named) == ["job.progress"]


# -- hygiene


def test_metrics_tell_how_much_is_still_to_be_told_and_for_how_long(
    core: CoreMachine, receiver: WebhookReceiver
) -> None:
    def metrics() -> dict[str, float]:
        found = WebhookCollector(core.wiring.database).collect()
        return {sample.name: sample.value for metric in found for sample in metric.samples}

    register(core, receiver.url)
    ended_job(core)
    core.sql("UPDATE webhook_deliveries SET next_attempt_at = now() - interval '90 seconds'")
    assert metrics()["nightshift_webhooks_pending"] == 1
    assert 90 <= metrics()["nightshift_webhooks_overdue_seconds"] < 120
    deliver_due(core)
    assert metrics() == {
        "nightshift_webhooks_pending": 0,
        "nightshift_webhooks_overdue_seconds": 0,
        "nightshift_webhooks_ended": 1,
    }


def test_deliveries_that_are_over_are_swept_with_the_events(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url)
    old, new = ended_job(core), ended_job(core)
    deliver_due(core)
    core.sql("UPDATE webhook_deliveries SET ended_at = now() - interval '31 days' WHERE job_id = :id", id=old)
    assert sweep_expired(wiring=core.wiring).n_webhook_deliveries == 1
    assert [row["job_id"] for row in deliveries(core)] == [new]


def test_a_dialect_of_its_own_is_no_batch(core: CoreMachine, receiver: WebhookReceiver) -> None:
    register(core, receiver.url, *EVENT_TYPES)
    job_id = core.submit_content(good("a").line(), dialect=Dialect.NATIVE, model="echo")
    core.drive(job_id)
    assert told(core, job_id) == ["job.succeeded"]
