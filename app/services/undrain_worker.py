"""Let a drained worker take chunks again."""

from __future__ import annotations

from dataclasses import replace

from app.db.notify import notify
from app.db.repositories.worker_states import WorkerStates
from app.domain.workers import Worker, WorkerState
from app.services.drain_worker import known_worker
from app.wiring import Wiring


def undrain_worker(*, wiring: Wiring, queue: str) -> Worker:
    """End the drain of a queue; ending one that is not there is no error.

    Raises:
        NotFound: no worker of that name ever registered, or it said goodbye.
    """
    with wiring.database.begin() as connection:
        workers = WorkerStates(connection, silence_s=wiring.settings.worker_silence_s)
        was = known_worker(workers, queue)
        workers.undrain(queue)
        notify(connection)
        return workers.get(queue) or replace(was, state=WorkerState.SILENT, drained_at=None)
