"""List a tenant's schedules."""

from __future__ import annotations

from app.db.repositories.schedules import Schedules
from app.domain.pages import Page
from app.domain.schedules import Schedule
from app.wiring import Wiring


def list_schedules(*, wiring: Wiring, tenant_id: str, limit: int, after: str | None) -> Page[Schedule]:
    """Schedules newest first, behind the schedule ``after``.

    Raises:
        NotFound: there is no schedule ``after``.
    """
    with wiring.database.begin() as connection:
        return Schedules(connection).list(tenant_id, limit=limit, after=after)
