"""The chord callback: after a wave, look whether its job is complete."""

from __future__ import annotations

from app import wiring
from app.services.finish_job import finish_job
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.finish_wave", base=NightshiftTask)
def finish_wave(*, job_id: str) -> str:
    """Finalise a job if nothing of it is left to run; may run zero, one or many times."""
    return finish_job(wiring=wiring.process_wiring(), job_id=job_id)
