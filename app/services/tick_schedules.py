"""Start what is due. Any number of beats may call this at once, as often as they like."""

from __future__ import annotations

import structlog

from app.db.repositories.schedules import Schedules
from app.domain.cron import next_tick
from app.errors import InvalidRequest
from app.services.start_run import start_run
from app.wiring import Wiring

log = structlog.get_logger(__name__)
AT_ONCE = 100


def tick_schedules(*, wiring: Wiring) -> int:
    """Open one run for every schedule whose tick has come, then make the jobs of every open run.

    A tick is claimed by its run's row, which is unique, in the transaction that moves the schedule to its next
    tick. However many ticks passed while nothing was running, one run makes up for all of them. A run whose maker
    died before its jobs were recorded is open still, and is taken up again here.

    Returns:
        How many runs were opened.
    """
    n_opened = _claim_due(wiring)
    with wiring.database.begin() as connection:
        waiting = Schedules(connection).open_runs(AT_ONCE)
    for run in waiting:
        start_run(wiring=wiring, run=run)
    return n_opened


def _claim_due(wiring: Wiring) -> int:
    n_opened = 0
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        now = schedules.now()
        for schedule in schedules.lock_due(AT_ONCE):
            try:
                following = next_tick(schedule.cron, schedule.timezone, after=now)
            except InvalidRequest as error:  # a zone can leave the time zone database, a year can run out
                log.exception("schedule_switched_off", schedule_id=schedule.id, reason=error.message)
                schedules.update(schedule.tenant_id, schedule.id, enabled=False, next_tick_at=None)
                continue
            run = schedules.add_run(schedule, tick_at=schedule.next_tick_at)
            schedules.update(schedule.tenant_id, schedule.id, next_tick_at=following)
            if run is not None:
                n_opened += 1
                log.info("schedule_run_opened", schedule_id=schedule.id, run_id=run.id, tick_at=run.tick_at)
    return n_opened
