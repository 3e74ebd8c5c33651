"""Validate and plan a job."""

from __future__ import annotations

from app import wiring
from app.services.prepare_job import prepare_job as prepare
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.prepare_job", base=NightshiftTask)
def prepare_job(*, job_id: str) -> str:
    """Take a job from ``validating`` to ``queued`` or ``failed``."""
    return prepare(wiring=wiring.process_wiring(), job_id=job_id)
