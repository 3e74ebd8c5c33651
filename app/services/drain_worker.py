"""Drain a worker: it finishes the chunk that it runs and takes no more."""

from __future__ import annotations

from app.db.notify import notify
from app.db.repositories.chunks import Chunks
from app.db.repositories.worker_states import WorkerStates
from app.domain.workers import Worker
from app.errors import NotFound
from app.wiring import Wiring
from config.settings import is_queue_name


def drain_worker(*, wiring: Wiring, queue: str) -> Worker:
    """Drain the worker of a queue. It stays drained over restarts; draining it twice is no error.

    What was published to it goes to others at once. Messages that it still gets find nothing to do.

    Raises:
        NotFound: no worker of that name ever registered, or it said goodbye.
    """
    with wiring.database.begin() as connection:
        workers = WorkerStates(connection, silence_s=wiring.settings.worker_silence_s)
        known_worker(workers, queue)
        workers.drain(queue)
        Chunks(connection).take_back_from_queue(queue)
        notify(connection)
        return known_worker(workers, queue)


def known_worker(workers: WorkerStates, queue: str) -> Worker:
    """The worker of a queue.

    Raises:
        NotFound: there is none.
    """
    worker = workers.get(queue) if is_queue_name(queue) else None
    if worker is None:
        names = ", ".join(known.queue for known in workers.list()) or "none yet"
        raise NotFound(f"there is no worker {queue[:80]!r}; the workers are: {names}")
    return worker
