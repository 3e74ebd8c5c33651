"""Give an order to a group: one row is written; who leads the group passes it on to the members."""

from __future__ import annotations

from app.db.notify import notify
from app.db.repositories.groups import Groups
from app.domain.groups import GroupDetails, GroupOrder, check_order
from app.services.group_details import group_details
from app.wiring import Wiring


def order_group(*, wiring: Wiring, tenant_id: str, group_id: str, order: GroupOrder) -> GroupDetails:
    """Cancel, pause or resume all members of a group. Asking twice is no error.

    Raises:
        NotFound: no such group, or another tenant's.
        StateConflict: its state forbids it.
    """
    with wiring.database.begin() as connection:
        groups = Groups(connection)
        groups.get(tenant_id, group_id)
        group = groups.lock(group_id)
        details = group_details(connection, group, wiring.models)
        if not check_order(details, order):
            return details
        group = groups.update(group.id, order_kind=order, order_seq=group.order_seq + 1)
        notify(connection)
        return group_details(connection, group, wiring.models)
