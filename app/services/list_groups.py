"""List a tenant's groups."""

from __future__ import annotations

from app.db.repositories.groups import Groups
from app.domain.groups import GroupDetails
from app.domain.pages import Page, page_of
from app.services.group_details import group_details
from app.wiring import Wiring


def list_groups(*, wiring: Wiring, tenant_id: str, limit: int, after: str | None) -> Page[GroupDetails]:
    """Groups newest first, behind the group whose id is ``after``.

    Raises:
        NotFound: there is no group ``after``.
    """
    with wiring.database.begin() as connection:
        page = page_of(Groups(connection).list(tenant_id, limit=limit + 1, after=after), limit)
        details = [group_details(connection, group, wiring.models) for group in page.items]
    return Page(items=details, has_more=page.has_more)
