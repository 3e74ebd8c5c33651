"""Show a tenant."""

from __future__ import annotations

from app.db.repositories.tenants import Tenants
from app.domain.tenants import TenantDetails
from app.services.tenant_details import tenant_details
from app.wiring import Wiring


def show_tenant(*, wiring: Wiring, name: str) -> TenantDetails:
    """One tenant with its quota and what it uses.

    Raises:
        NotFound: no such tenant.
    """
    with wiring.database.begin() as connection:
        tenant = Tenants(connection).named(name)
        return tenant_details(connection, wiring.settings, [tenant])[0]
