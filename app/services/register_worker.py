"""A worker says that it lives."""

from __future__ import annotations

from app.db.notify import notify
from app.db.repositories.workers import LiveWorker, Workers
from app.db.session import Database
from app.errors import QueueTaken
from config.queues import pool_of


def register_worker(
    *,
    database: Database,
    queue: str,
    host: str,
    incarnation: str,
    warm_models: tuple[str, ...],
    unloadable_models: tuple[str, ...] = (),
    silence_s: float,
    is_new: bool = False,
) -> bool:
    """Record the worker that serves ``queue``; call it every few seconds.

    Args:
        incarnation: names this very process; a restart gets another.
        warm_models: aliases whose weights are on the device.
        unloadable_models: aliases that this process tried to load lately and could not.
        silence_s: after this long without a word a worker is taken for dead.
        is_new: wakes the dispatcher, which may have work waiting for this worker.
    Returns:
        Whether the queue is drained: then its worker takes nothing more, synchronous requests included.
    Raises:
        QueueTaken: another host's worker serves the queue; this one must end.
    """
    worker = LiveWorker(queue, pool_of(queue), host, incarnation, warm_models, unloadable_models)
    with database.begin() as connection:
        workers = Workers(connection)
        if not workers.report(worker, silence_s=silence_s):
            raise QueueTaken(f"{queue} is served by a live worker on another host; a queue has one worker")
        if is_new:
            notify(connection)
        return workers.is_drained(queue)


def unregister_worker(*, database: Database, queue: str, incarnation: str) -> None:
    """Record that the worker stopped in good order."""
    with database.begin() as connection:
        Workers(connection).leave(queue=queue, incarnation=incarnation)
