"""List tenants."""

from __future__ import annotations

from app.db.repositories.tenants import Tenants
from app.domain.pages import Page
from app.domain.tenants import TenantDetails
from app.services.tenant_details import tenant_details
from app.wiring import Wiring


def list_tenants(*, wiring: Wiring, limit: int, after: str | None) -> Page[TenantDetails]:
    """Tenants by name, behind the name ``after``, with their quotas and what they use."""
    with wiring.database.begin() as connection:
        page = Tenants(connection).list(limit=limit, after=after)
        return Page(tenant_details(connection, wiring.settings, page.items), page.has_more)
