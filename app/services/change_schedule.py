"""Change a schedule: its name, its clock, or whether it runs at all."""

from __future__ import annotations

from typing import Any

from app.db.repositories.schedules import Schedules
from app.domain.cron import next_tick
from app.domain.schedules import Schedule
from app.wiring import Wiring


def change_schedule(*, wiring: Wiring, tenant_id: str, schedule_id: str, changes: dict[str, Any]) -> Schedule:
    """Apply ``changes`` (of ``name``, ``cron``, ``timezone``, ``due_by``, ``enabled``) and find the next tick anew.

    Ticks that passed while it was off are not made up for.

    Raises:
        NotFound: no such schedule.
        InvalidRequest: the new cron line or zone is wrong.
    """
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        known = schedules.get(tenant_id, schedule_id)
        cron, timezone = changes.get("cron", known.cron), changes.get("timezone", known.timezone)
        tick = next_tick(cron, timezone, after=schedules.now())
        enabled = changes.get("enabled", known.enabled)
        return schedules.update(tenant_id, schedule_id, **changes, next_tick_at=tick if enabled else None)
