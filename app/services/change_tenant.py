"""Change what a tenant may use."""

from __future__ import annotations

from typing import Any

import structlog

from app.db.repositories.hygiene import Hygiene
from app.db.repositories.tenants import Tenants
from app.domain.tenants import Tenant, TenantDetails, TenantLimits
from app.services.tenant_details import tenant_details
from app.wiring import Wiring

log = structlog.get_logger(__name__)


def change_tenant(*, wiring: Wiring, name: str, changes: dict[str, Any]) -> TenantDetails:
    """Set the limits in ``changes`` and leave the others; None takes one back to the installation's default.

    They hold for whatever is decided from now on; a retention also for what is stored already. The change is written to
    the log, with the request's id.

    Raises:
        NotFound: no such tenant.
    """
    with wiring.database.begin() as connection:
        tenants = Tenants(connection)
        before = tenants.named(name, for_update=True)
        after = tenants.set_limits(before.id, changes) if changes else before
        if changes.get("retention_s") is not None:
            Hygiene(connection).shorten(after.id, changes["retention_s"])
        details = tenant_details(connection, wiring.settings, [after])[0]
    _audit(before, after.limits)
    return details


def _audit(tenant: Tenant, after: TenantLimits) -> None:
    changed = tenant.limits.differences(after)
    if changed:
        log.info("tenant_changed", tenant=tenant.name, tenant_id=tenant.id, by="administrator", limits=changed)
