"""Tenants with what they may use and what they do use."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from app.db.repositories.tenant_use import TenantUses
from app.domain.tenants import Tenant, TenantDetails
from app.services.tenant_quotas import default_quota
from config.settings import Settings


def tenant_details(connection: Connection, settings: Settings, tenants: Sequence[Tenant]) -> list[TenantDetails]:
    """The tenants in their order, each with its quota and its use."""
    uses = TenantUses(connection).of([tenant.id for tenant in tenants])
    defaults = default_quota(settings)
    return [TenantDetails(tenant=tenant, quota=tenant.limits.over(defaults), use=uses[tenant.id]) for tenant in tenants]
