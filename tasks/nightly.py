"""The clock of schedules."""

from __future__ import annotations

from app.services import tick_schedules as ticking
from app.wiring import process_wiring
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.tick_schedules", base=NightshiftTask)
def tick_schedules() -> None:
    """Start every run that is due."""
    ticking.tick_schedules(wiring=process_wiring())
