"""The topology on a real RabbitMQ."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace

import pytest
from kombu import Connection, Queue
from running_stack import RunningStack

from app.broker.listeners import consumer_counts
from app.broker.management import ManagementApi
from app.errors import BrokerUnavailable
from app.services.apply_topology import apply_topology, supported_policy
from app.services.keep_topology import keep_topology
from app.wiring import Wiring
from config.queues import DEAD_LETTER_QUEUE, POLICY_DEFINITION, POLICY_NAME, all_queues, task_queues
from config.settings import Settings
from workers.topology_keeper import TopologyKeeper


@pytest.fixture
def rabbitmq(wiring: Wiring) -> Settings:
    """Settings whose broker is RabbitMQ with its management API."""
    if wiring.settings.broker_is_redis:
        pytest.skip("Redis stands in for RabbitMQ here; it needs no topology")
    return wiring.settings


def test_declaring_twice_changes_nothing(rabbitmq: Settings) -> None:
    first = apply_topology(settings=rabbitmq)
    assert apply_topology(settings=rabbitmq) == first
    assert first.policy == POLICY_NAME


def test_every_queue_exists_and_work_is_carried_by_quorum_queues(rabbitmq: Settings) -> None:
    apply_topology(settings=rabbitmq)
    with ManagementApi.from_settings(rabbitmq) as api:
        found = api.queues()
    assert {queue.name for queue in all_queues(rabbitmq.queues)} <= set(found)
    assert {found[queue.name].kind for queue in task_queues(rabbitmq.queues)} == {"quorum"}


def test_a_queue_with_other_arguments_is_named_with_what_to_do(rabbitmq: Settings) -> None:
    settings = replace(rabbitmq, queues=("clash.0",))
    with Connection(rabbitmq.broker_url) as connection:
        classic = Queue("clash.0", durable=True)(connection.default_channel)
        classic.declare()
        try:
            with pytest.raises(BrokerUnavailable, match=r"clash\.0.*nightshift topology"):
                apply_topology(settings=settings)
        finally:
            classic.delete()
            with ManagementApi.from_settings(rabbitmq) as api:
                assert "control" in api.queues()


def test_what_is_gone_is_declared_again_and_nothing_else_is_done(rabbitmq: Settings) -> None:
    apply_topology(settings=rabbitmq)
    assert not keep_topology(settings=rabbitmq)
    with ManagementApi.from_settings(rabbitmq) as api, Connection(rabbitmq.broker_url) as connection:
        connection.default_channel.queue_delete(DEAD_LETTER_QUEUE)
        assert keep_topology(settings=rabbitmq)
        assert connection.default_channel.queue_declare(DEAD_LETTER_QUEUE, passive=True)

        api.put_policy(POLICY_NAME, pattern="^nothing$", definition={"delivery-limit": 3})
        assert keep_topology(settings=rabbitmq)
        assert api.policy(POLICY_NAME) == supported_policy(api.version())[0]
    assert not keep_topology(settings=rabbitmq)


def test_the_dispatcher_keeps_the_topology_while_it_leads(rabbitmq: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.topology_keeper.LOOK_EVERY_S", 0.1)
    leads = [False]
    apply_topology(settings=rabbitmq)
    with (
        Connection(rabbitmq.broker_url) as connection,
        closing(TopologyKeeper(rabbitmq, leads=lambda: leads[0])) as keeper,
    ):
        connection.default_channel.queue_delete(DEAD_LETTER_QUEUE)
        keeper.start()
        time.sleep(0.5)
        assert DEAD_LETTER_QUEUE not in consumer_counts(rabbitmq, [DEAD_LETTER_QUEUE])
        leads[0] = True
        RunningStack.wait_until(
            lambda: DEAD_LETTER_QUEUE in consumer_counts(rabbitmq, [DEAD_LETTER_QUEUE]),
            timeout_s=20,
            what="the dead-letter queue",
        )


def test_a_broker_that_is_down_is_named(rabbitmq: Settings) -> None:
    settings = replace(rabbitmq, broker_url="amqp://nobody:x@127.0.0.1:1//", connect_timeout_s=1.0)
    with pytest.raises(BrokerUnavailable, match="NIGHTSHIFT_BROKER_URL"):
        apply_topology(settings=settings)


def test_a_wrong_password_is_named(rabbitmq: Settings) -> None:
    address = rabbitmq.broker_url.partition("@")[2]
    settings = replace(rabbitmq, broker_url=f"amqp://nobody:wrong@{address}")
    with pytest.raises(BrokerUnavailable, match="refuses the user"):
        apply_topology(settings=settings)


def test_a_redis_broker_needs_nothing_and_is_told_so(wiring: Wiring) -> None:
    report = apply_topology(settings=replace(wiring.settings, broker_url="redis://127.0.0.1:1/0"))
    assert report.queues == ()
    assert "Redis" in report.notes[0]


def test_an_old_server_gets_the_policy_it_knows_and_a_new_one_all_of_it() -> None:
    old, notes = supported_policy((3, 10, 8))
    assert set(POLICY_DEFINITION) - set(old) == {"consumer-timeout"}
    assert "rabbitmq.conf" in notes[0]
    assert supported_policy((3, 13, 0)) == (POLICY_DEFINITION, ())
    assert supported_policy((4, 1, 2)) == (POLICY_DEFINITION, ())
