"""Dead letters on a real broker: read once, explained in Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from uuid import uuid4

import pytest
from kombu import Connection, Exchange, Queue
from sqlalchemy import select

from app.db.tables import dead_letters
from app.services.apply_topology import apply_topology
from app.services.record_dead_letters import record_dead_letters
from app.wiring import Wiring
from config.queues import DEAD_LETTER_EXCHANGE

TASK = "nightshift.run_chunk"


@pytest.fixture
def doomed_queue(wiring: Wiring) -> Iterator[Queue]:
    """A queue of this test alone whose rejected messages go where those of work queues go."""
    if wiring.settings.broker_is_redis:
        pytest.skip("Redis has no dead letters")
    apply_topology(settings=wiring.settings)
    name = f"doomed-{uuid4().hex}"
    arguments = {"x-queue-type": "quorum", "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE}
    exchange = Exchange(name, type="direct", durable=False, auto_delete=True)
    with Connection(wiring.settings.broker_url) as connection:
        queue = Queue(name, exchange, name, durable=True, queue_arguments=arguments)(connection.default_channel)
        queue.declare()
        yield queue
        queue.delete()


def _recorded(wiring: Wiring, queue: str) -> list[dict[str, object]]:
    with wiring.database.begin() as connection:
        found = connection.execute(select(dead_letters).where(dead_letters.c.queue == queue)).mappings()
        return [dict(row) for row in found]


def _die(queue: Queue, task_id: str) -> None:
    """Publish a task's message and reject it, as a worker that cannot read it does."""
    headers = {"task": TASK, "id": task_id, "argsrepr": "(7,)"}
    with queue.channel.connection.client.Producer() as producer:
        producer.publish({}, exchange=queue.exchange, routing_key=queue.name, headers=headers)
    while (message := queue.get()) is None:
        pass
    message.reject()


def test_a_dead_letter_is_explained_once_and_taken_from_the_queue(wiring: Wiring, doomed_queue: Queue) -> None:
    _die(doomed_queue, "task-1")
    n_read = 0
    while n_read == 0:
        n_read = record_dead_letters(wiring=wiring)
    (letter,) = _recorded(wiring, doomed_queue.name)
    assert letter["reason"] == "rejected"
    assert letter["task"] == TASK
    assert letter["message"] == {**letter["message"], "id": "task-1", "args": "(7,)", "count": 1}  # type: ignore[dict-item]
    assert record_dead_letters(wiring=wiring) == 0


def test_a_tick_that_came_too_late_is_no_dead_letter(wiring: Wiring, doomed_queue: Queue) -> None:
    with doomed_queue.channel.connection.client.Producer() as producer:
        publish = partial(producer.publish, {}, exchange=doomed_queue.exchange, routing_key=doomed_queue.name)
        publish(headers={"task": TASK, "id": "late"}, expiration=0.001)
    n_read = 0
    while n_read == 0:
        n_read = record_dead_letters(wiring=wiring)
    assert _recorded(wiring, doomed_queue.name) == []


def test_without_dead_letters_nothing_happens(wiring: Wiring) -> None:
    record_dead_letters(wiring=wiring)
    assert record_dead_letters(wiring=wiring) == 0
