"""Delete a schedule; what it ran stays."""

from __future__ import annotations

from sqlalchemy import func

from app.db.repositories.schedules import Schedules
from app.wiring import Wiring


def delete_schedule(*, wiring: Wiring, tenant_id: str, schedule_id: str) -> None:
    """No tick of it starts anything from now on; a run that has not begun its jobs is closed.

    Raises:
        NotFound: no such schedule.
    """
    with wiring.database.begin() as connection:
        schedules = Schedules(connection)
        schedules.update(tenant_id, schedule_id, deleted_at=func.now(), next_tick_at=None)
        schedules.close_runs_of(schedule_id, problem="the schedule was deleted before this run began")
