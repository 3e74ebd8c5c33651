"""The quotas that hold now: what was set for a tenant over the installation's defaults."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.tenants import Tenants
from app.domain.tenants import TenantQuota, TenantQuotas
from config.settings import Settings


def default_quota(settings: Settings) -> TenantQuota:
    """What holds for a tenant for whom nothing was set."""
    return TenantQuota(
        weight=settings.default_tenant_weight,
        max_running_jobs=settings.default_tenant_max_running_jobs,
        max_chunks=settings.default_tenant_max_chunks,
        max_enqueued_tokens=settings.default_tenant_max_enqueued_tokens,
        requests_per_minute=settings.default_tenant_requests_per_minute,
        max_storage_bytes=settings.default_tenant_max_storage_bytes,
        retention_s=settings.default_tenant_retention_s,
        budget=settings.default_tenant_budget,
    )


def tenant_quotas(connection: Connection, settings: Settings) -> TenantQuotas:
    """The quotas of all tenants, in one query."""
    return Tenants(connection).quotas(default_quota(settings))


def tenant_quota(connection: Connection, settings: Settings, *, tenant_id: str) -> TenantQuota:
    """The quota of one tenant."""
    return Tenants(connection).quota(tenant_id, default_quota(settings))
