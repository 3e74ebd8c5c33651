"""Telling receivers what became of jobs."""

from __future__ import annotations

from app import wiring
from app.services import deliver_webhooks as delivering
from app.services import tell_progress as telling
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.deliver_webhooks", base=NightshiftTask)
def deliver_webhooks(*, delivery_id: str) -> None:
    """Send a delivery, and what else is due for its receiver."""
    delivering.deliver_webhooks(wiring=wiring.process_wiring(), delivery_id=delivery_id)


@app.task(name="nightshift.tell_progress", base=NightshiftTask)
def tell_progress() -> None:
    """Tell how far running jobs have come."""
    telling.tell_progress(wiring=wiring.process_wiring())
