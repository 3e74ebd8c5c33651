"""The Redis result backend, used for nothing but counting the members of chords.

Nobody ever waits for a Celery result here: outcomes are rows. Celery's own backend subscribes the publisher to a Redis
channel for every header task of a chord, and ends the process when that subscription cannot be made again; this one
does not subscribe, so Redis may be away without taking the dispatcher along.
"""

from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend


class ChordBackend(RedisBackend):
    """Counts chord members in Redis and delivers no results."""

    def add_pending_result(self, result: Any, weak: bool = False, start_drainer: bool = True) -> Any:  # noqa: FBT001, FBT002 - Celery's signature
        """Take note of nothing: no result is ever collected."""
        del weak, start_drainer
        return result

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """Subscribe to nothing."""
