"""Run a chunk on this worker's device."""

from __future__ import annotations

from app import wiring
from app.services.run_ahead import run_ahead
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.run_chunk", base=NightshiftTask)
def run_chunk(*, chunk_id: int, grant: int) -> str:
    """Run a granted chunk, and go on with those behind it; never raises for a reason that lies in the data."""
    del grant  # for the logs, to which the base class binds it
    worker = wiring.worker_process()
    return run_ahead(
        wiring=wiring.process_wiring(),
        runner=worker.runner,
        chunk_id=chunk_id,
        queue=worker.queue,
        holder=worker.incarnation,
        is_leaving=worker.is_leaving,
        death_notes=worker.death_notes,
    )
