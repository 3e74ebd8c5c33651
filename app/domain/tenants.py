"""What a tenant may use. Pure: where the numbers are kept and who enforces them is said elsewhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantQuota:
    """The quota that holds for one tenant: what was set for it, else the installation's default."""

    weight: float
    """Share among the tenants who have work, relative to the others."""
    max_running_jobs: int
    max_chunks: int
    """Chunks with workers at once, over all jobs."""
    max_enqueued_tokens: int
    """Estimated tokens of admitted jobs that have not run yet."""
    requests_per_minute: int
    max_storage_bytes: int
    retention_s: int
    """Longest life of files and results, whatever was asked for."""
    budget: Decimal | None
    """Money; None: no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """What was set for one tenant; None: the installation's default holds. Fields as in ``TenantQuota``."""

    weight: float | None = None
    max_running_jobs: int | None = None
    max_chunks: int | None = None
    max_enqueued_tokens: int | None = None
    requests_per_minute: int | None = None
    max_storage_bytes: int | None = None
    retention_s: int | None = None
    budget: Decimal | None = None

    def over(self, defaults: TenantQuota) -> TenantQuota:
        """The quota that holds: these limits where they were set, ``defaults`` elsewhere."""
        own = {field: getattr(self, field) for field in QUOTA_FIELDS}
        return dataclasses.replace(defaults, **{name: value for name, value in own.items() if value is not None})


QUOTA_FIELDS = tuple(field.name for field in dataclasses.fields(TenantLimits))


@dataclass(frozen=True, slots=True)
class TenantQuotas:
    """The quotas of all tenants, by id."""

    defaults: TenantQuota
    own: Mapping[str, TenantQuota]
    """Of the tenants for whom anything was set."""

    def of(self, tenant_id: str) -> TenantQuota:
        """The quota that holds for a tenant."""
        return self.own.get(tenant_id, self.defaults)
