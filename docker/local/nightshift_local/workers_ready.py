"""Whether a worker has begun to listen; until then `nightshift doctor` finds fault with the stack."""

from __future__ import annotations

from dataclasses import replace

from app.broker.listeners import consumer_counts
from app.db.session import Database
from app.errors import NightshiftError
from app.installation.work import check_workers
from config.queues import CONTROL_QUEUE, WEBHOOK_QUEUE, pool_of, sync_queue
from config.settings import Settings
from nightshift_local.errors import NotReady

# Of the workers that serve no device.
_SHARED_QUEUES = (CONTROL_QUEUE, WEBHOOK_QUEUE)


def probe_worker(settings: Settings, queue: str) -> None:
    """Pass once the worker of a queue is registered and takes its messages; its models may still load.

    Raises:
        NotReady: says what is missing.
    """
    try:
        if queue not in _SHARED_QUEUES:
            _probe_registration(settings, queue)
        if not settings.broker_is_redis:  # which does not know who listens
            _probe_listening(settings, queue)
    except NightshiftError as error:
        raise NotReady(error.message) from error


def _probe_registration(settings: Settings, queue: str) -> None:
    database = Database.connect(settings.database_url, connect_timeout_s=settings.connect_timeout_s, pool_size=1)
    try:
        check = check_workers(database, replace(settings, queues=(queue,)))
    finally:
        database.close()
    if check.state != "ok":
        raise NotReady("the worker has not registered itself")


def _probe_listening(settings: Settings, queue: str) -> None:
    names = [queue] if queue in _SHARED_QUEUES else [queue, sync_queue(pool_of(queue))]
    counts = consumer_counts(settings, names)
    if silent := [name for name in names if not counts.get(name)]:
        raise NotReady(f"nobody listens on {' and '.join(silent)}")
