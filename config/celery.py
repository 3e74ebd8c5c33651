"""Celery's configuration, built from the settings.

Sources: celery and kombu 5.7.0 as installed; the faults each line answers are told in
``docs/design/reliability.md``.
"""

from __future__ import annotations

from typing import Any

from config.queues import CONTROL_QUEUE, task_queues
from config.settings import Settings
from config.tls import broker_tls, chord_store_url

WEEK_S = 7 * 86_400
REDIS_TIMEOUT_S = 1.0
"""Nothing in Redis is worth waiting for: what a lost chord leaves behind the dispatcher finds."""


def celery_config(settings: Settings) -> dict[str, Any]:
    """The whole configuration of the Celery app, as its ``conf`` takes it."""
    return {
        "broker_url": settings.broker_url,
        "broker_use_ssl": broker_tls(settings),
        "result_backend": f"tasks.chord_backend:ChordBackend+{chord_store_url(settings)}",
        **_SERIALIZATION,
        **_DELIVERY,
        "broker_transport_options": transport_options(settings),
        "broker_connection_timeout": settings.connect_timeout_s,
        "broker_connection_retry_on_startup": True,
        # For ever: a worker that gave up would take the chunk that it runs along.
        "broker_connection_max_retries": None,
        "broker_heartbeat": 20,
        "redis_socket_timeout": REDIS_TIMEOUT_S,
        "redis_socket_connect_timeout": settings.connect_timeout_s,
        "redis_retry_on_timeout": False,
        "result_backend_transport_options": {"retry_policy": {"max_retries": 1, "interval_start": 0, "timeout": 2.0}},
        "task_queues": task_queues(settings.queues),
        "task_default_queue": CONTROL_QUEUE,
        "task_default_exchange": "nightshift",
        "task_default_routing_key": CONTROL_QUEUE,
        "worker_hijack_root_logger": False,
        "worker_send_task_events": True,
        "task_send_sent_event": True,
        "worker_proc_alive_timeout": 60.0,
        # A chunk's outcome is in Postgres: nothing of it can still arrive from a child that died.
        "worker_lost_wait": 0.2,
        "timezone": "UTC",
        "enable_utc": True,
        # A chord's counter must outlive the longest completion window.
        "result_chord_expires": WEEK_S,
        "result_expires": 2 * WEEK_S,
        "beat_max_loop_interval": 5,
    }


_SERIALIZATION: dict[str, Any] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],
    "result_accept_content": ["json"],
}

_DELIVERY: dict[str, Any] = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure_or_timeout": True,
    "task_create_missing_queues": False,
    "task_ignore_result": True,
    "task_publish_retry": False,
    "worker_prefetch_multiplier": 1,
    "worker_deduplicate_successful_tasks": False,
    # A running chunk is fenced by its lease; a lost connection is no reason to stop it.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "worker_enable_remote_control": True,
}


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of the broker connection.

    ``confirm_publish`` alone hangs for ever on a broker in memory or disk alarm; with the two timeouts the
    publisher raises and the dispatcher backs off.
    """
    if settings.broker_is_redis:
        return {"visibility_timeout": 3600, "socket_timeout": settings.broker_timeout_s}
    return {
        "confirm_publish": True,
        "read_timeout": settings.broker_timeout_s,
        "write_timeout": settings.broker_timeout_s,
    }
