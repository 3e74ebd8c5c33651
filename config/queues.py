"""The queues, exchanges and the broker policy: the one place that names them.

Quorum queues everywhere work is carried. Delivery limit, dead-letter exchange and consumer timeout come
from a policy and never from queue arguments: a changed argument is a 406 for every process, a changed
policy is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kombu import Exchange, Queue

CONTROL_QUEUE = "control"
# Apart from ``control``: a receiver of webhooks may take its time, a job that is to be finished may not wait for it.
WEBHOOK_QUEUE = "webhooks"
DEAD_LETTER_EXCHANGE = "nightshift.dead"
DEAD_LETTER_QUEUE = "dead"
SYNC_PREFIX = "sync."
WORK_EXCHANGE = Exchange("nightshift", type="direct", durable=True)

POLICY_NAME = "nightshift-work"
# Every queue that carries work; sync lanes and reply queues are left alone.
POLICY_PATTERN = r"^(control|webhooks|[a-z][a-z0-9]*\.[0-9]+)$"
POLICY_DEFINITION: dict[str, Any] = {
    "dead-letter-exchange": DEAD_LETTER_EXCHANGE,
    "delivery-limit": 20,
    # A chunk lasts about 10 s, p99 under 60 s; half an hour means that its worker hangs.
    "consumer-timeout": 1_800_000,
}

_QUORUM = {"x-queue-type": "quorum"}


def pool_of(queue: str) -> str:
    """The pool a pinned queue belongs to: ``gpu.0`` -> ``gpu``."""
    return queue.split(".", 1)[0]


def sync_queue(pool: str) -> str:
    """The queue on which a pool's workers answer synchronous requests."""
    return SYNC_PREFIX + pool


def work_queue(name: str) -> Queue:
    """A durable quorum queue on our direct exchange, routed by its own name."""
    return Queue(name, exchange=WORK_EXCHANGE, routing_key=name, durable=True, queue_arguments=dict(_QUORUM))


def sync_lane_queue(pool: str) -> Queue:
    """A classic, short-lived-message queue: an answer nobody waits for any more is worth nothing."""
    name = sync_queue(pool)
    return Queue(name, exchange=WORK_EXCHANGE, routing_key=name, durable=True)


def dead_letter_queue() -> Queue:
    """Where messages end that could not be delivered within the delivery limit."""
    exchange = Exchange(DEAD_LETTER_EXCHANGE, type="fanout", durable=True)
    return Queue(DEAD_LETTER_QUEUE, exchange=exchange, durable=True, queue_arguments=dict(_QUORUM))


def task_queues(device_queues: Sequence[str]) -> list[Queue]:
    """The queues Celery may publish to or consume from."""
    return [work_queue(name) for name in (CONTROL_QUEUE, WEBHOOK_QUEUE, *device_queues)]


def all_queues(device_queues: Sequence[str]) -> list[Queue]:
    """Everything ``nightshift topology`` declares."""
    pools = sorted({pool_of(name) for name in device_queues})
    return [*task_queues(device_queues), *(sync_lane_queue(pool) for pool in pools), dead_letter_queue()]
