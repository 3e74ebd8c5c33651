"""What Celery beat ticks. Every tick is harmless when it comes twice, late or never: two beats may run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

TICK_SCHEDULES_S = 5
TELL_PROGRESS_S = 10
RECORD_DEAD_LETTERS_S = 30
SUM_UP_WORK_S = 5 * 60
SWEEP_EXPIRED_S = 15 * 60
SWEEP_ORPHANS_S = 6 * 3600
RECOUNT_STORED_BYTES_S = 6 * 3600


def _every(seconds: int, task: str) -> dict[str, Any]:
    """A tick; one that waited longer than until the next is thrown away, so that none pile up behind a busy queue."""
    return {"task": task, "schedule": timedelta(seconds=seconds), "options": {"expires": seconds}}


BEAT_SCHEDULE: dict[str, dict[str, Any]] = {
    "tick-schedules": _every(TICK_SCHEDULES_S, "nightshift.tick_schedules"),
    "tell-progress": _every(TELL_PROGRESS_S, "nightshift.tell_progress"),
    "record-dead-letters": _every(RECORD_DEAD_LETTERS_S, "nightshift.record_dead_letters"),
    "sum-up-work": _every(SUM_UP_WORK_S, "nightshift.sum_up_work"),
    "sweep-expired": _every(SWEEP_EXPIRED_S, "nightshift.sweep_expired"),
    "recount-stored-bytes": _every(RECOUNT_STORED_BYTES_S, "nightshift.recount_stored_bytes"),
    "sweep-orphans": _every(SWEEP_ORPHANS_S, "nightshift.sweep_orphans"),
}
