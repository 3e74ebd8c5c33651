"""Sweeping what is past its time, and summing up what is done."""

from __future__ import annotations

from app.services import sum_up_work as work
from app.services import sweep_expired as expired
from app.services import sweep_orphans as orphans
from app.services.recount_storage import recount_storage
from app.wiring import process_wiring
from tasks.base import NightshiftTask
from tasks.celery_app import app


@app.task(name="nightshift.sweep_expired", base=NightshiftTask)
def sweep_expired() -> None:
    """Delete the objects of expired files and results."""
    expired.sweep_expired(wiring=process_wiring())


@app.task(name="nightshift.sweep_orphans", base=NightshiftTask)
def sweep_orphans() -> None:
    """Delete objects that no row names."""
    orphans.sweep_orphans(wiring=process_wiring())


@app.task(name="nightshift.sum_up_work", base=NightshiftTask)
def sum_up_work() -> None:
    """Sum up the chunks that ended since the last time."""
    work.sum_up_work(database=process_wiring().database)


@app.task(name="nightshift.recount_stored_bytes", base=NightshiftTask)
def recount_stored_bytes() -> None:
    """Compare what tenants were counted to store with their rows."""
    recount_storage(wiring=process_wiring())
