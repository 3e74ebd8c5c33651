"""Show one group."""

from __future__ import annotations

from app.db.repositories.groups import Groups
from app.domain.groups import GroupDetails
from app.services.group_details import group_details
from app.wiring import Wiring


def show_group(*, wiring: Wiring, tenant_id: str, group_id: str) -> GroupDetails:
    """One group of a tenant with its live counts.

    Raises:
        NotFound: no such group, or another tenant's.
    """
    with wiring.database.begin() as connection:
        return group_details(connection, Groups(connection).get(tenant_id, group_id), wiring.models)
