"""Celery's prefork pool, noticing a dead child within a second instead of about ten.

Celery looks for lost jobs every 5 s and then waits ``worker_lost_wait`` (10 s) for a result that the child might have
sent before it died. A chunk's outcome is in Postgres, not in the result, so there is nothing to wait for: a message
that comes again finds the chunk done, or takes it over.
Source: ``celery.concurrency.asynpool.AsynPool.timers`` and ``billiard.pool.Pool._join_exited_workers``.
"""

from __future__ import annotations

from collections.abc import Callable

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool as PreforkPool

LOOK_EVERY_S = 0.25


class PromptPool(AsynPool):
    """Looks after its children several times a second."""

    @property
    def timers(self) -> dict[Callable[[], None], float]:
        """What the event loop calls again and again, with the seconds between."""
        return {self.maintain_pool: LOOK_EVERY_S}


class TaskPool(PreforkPool):
    """The pool of a device worker; named in ``worker_pool``."""

    Pool = PromptPool
