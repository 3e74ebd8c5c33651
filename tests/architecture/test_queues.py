"""Every queue has a consumer, every task a queue, every tick a task."""

from __future__ import annotations

import re

import pytest
from celery import Celery

from config.beat import BEAT_SCHEDULE
from config.queues import (
    CONTROL_QUEUE,
    DEAD_LETTER_QUEUE,
    POLICY_PATTERN,
    WEBHOOK_QUEUE,
    all_queues,
    pool_of,
    sync_queue,
    task_queues,
)

DEVICE_QUEUES = ("cpu.0", "cpu.1", "gpu.0")


@pytest.fixture
def celery_app(monkeypatch: pytest.MonkeyPatch, required: dict[str, str]) -> Celery:
    """The Celery app with all its tasks, configured for ``DEVICE_QUEUES``."""
    for name, value in {**required, "NIGHTSHIFT_QUEUES": ",".join(DEVICE_QUEUES)}.items():
        monkeypatch.setenv(name, value)
    from tasks.celery_app import app

    app.loader.import_default_modules()
    return app


def _own_tasks(app: Celery) -> set[str]:
    return {name for name in app.tasks if not name.startswith("celery.")}


def test_every_tick_names_a_task(celery_app: Celery) -> None:
    assert {entry["task"] for entry in BEAT_SCHEDULE.values()} <= _own_tasks(celery_app)


def test_every_task_is_named_as_ours(celery_app: Celery) -> None:
    assert {name for name in _own_tasks(celery_app) if not name.startswith("nightshift.")} == set()


def test_no_task_may_be_published_to_a_queue_that_nobody_declared(celery_app: Celery) -> None:
    assert celery_app.conf.task_create_missing_queues is False
    assert celery_app.conf.task_default_queue == CONTROL_QUEUE


def test_every_queue_has_a_consumer() -> None:
    """Who reads each queue; a new queue must be given a reader here and in ``docs/design/``."""
    readers = {
        CONTROL_QUEUE: "the control worker",
        WEBHOOK_QUEUE: "the webhook worker",
        DEAD_LETTER_QUEUE: "tasks/dead_letters.py, by beat",
        **{name: f"the worker pinned to {name}" for name in DEVICE_QUEUES},
        **{sync_queue(pool_of(name)): f"the sync lane of {pool_of(name)}" for name in DEVICE_QUEUES},
    }
    assert {queue.name for queue in all_queues(DEVICE_QUEUES)} == set(readers)


def test_the_policy_covers_exactly_the_queues_that_carry_work() -> None:
    work = {queue.name for queue in task_queues(DEVICE_QUEUES)}
    covered = {queue.name for queue in all_queues(DEVICE_QUEUES) if re.match(POLICY_PATTERN, queue.name)}
    assert covered == work


def test_queues_of_work_are_quorum_queues_without_arguments_a_policy_should_give() -> None:
    assert {str(queue.queue_arguments) for queue in task_queues(DEVICE_QUEUES)} == {"{'x-queue-type': 'quorum'}"}
