"""Lead a group of jobs on."""

from __future__ import annotations

from app import wiring
from app.services.lead_group import lead_group as lead
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.lead_group", base=NightshiftTask)
def lead_group(*, group_id: str) -> str:
    """Do for a group what none of its members does by itself: check, plan, pass orders on, close."""
    return lead(wiring=wiring.process_wiring(), group_id=group_id)
