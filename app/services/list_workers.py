"""List the workers."""

from __future__ import annotations

from app.db.repositories.worker_states import WorkerStates
from app.domain.workers import Worker
from app.wiring import Wiring


def list_workers(*, wiring: Wiring) -> list[Worker]:
    """Every worker that registered and did not say goodbye, and every drained queue."""
    with wiring.database.begin() as connection:
        return WorkerStates(connection, silence_s=wiring.settings.worker_silence_s).list()
