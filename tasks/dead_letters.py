"""Explaining messages that could not be delivered."""

from __future__ import annotations

from app.services import record_dead_letters as letters
from app.wiring import process_wiring
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.record_dead_letters", base=NightshiftTask)
def record_dead_letters() -> None:
    """Move dead letters from the broker into Postgres."""
    letters.record_dead_letters(wiring=process_wiring())
