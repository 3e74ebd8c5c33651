"""Show one schedule."""

from __future__ import annotations

from app.db.repositories.schedules import Schedules
from app.domain.schedules import Schedule
from app.wiring import Wiring


def show_schedule(*, wiring: Wiring, tenant_id: str, schedule_id: str) -> Schedule:
    """One schedule of the tenant.

    Raises:
        NotFound: no such schedule.
    """
    with wiring.database.begin() as connection:
        return Schedules(connection).get(tenant_id, schedule_id)
