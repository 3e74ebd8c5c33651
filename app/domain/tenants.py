"""What a tenant may use. Pure: where the numbers are kept and who enforces them is said elsewhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

MAX_NAME_CHARS = 64
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*\Z"
_NAME = re.compile(NAME_PATTERN)


def is_tenant_name(text: str) -> bool:
    """Whether a tenant can have this name."""
    return len(text) <= MAX_NAME_CHARS and _NAME.match(text) is not None


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

    def life_s(self, wanted_s: int) -> int:
        """How long a file or a result that was wanted for so long may live."""
        return min(wanted_s, self.retention_s)


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

    def differences(self, after: TenantLimits) -> dict[str, tuple[Any, Any]]:
        """What ``after`` says otherwise: by field, the limit here and the limit there."""
        pairs = {field: (getattr(self, field), getattr(after, field)) for field in QUOTA_FIELDS}
        return {field: (old, new) for field, (old, new) in pairs.items() if old != new}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """One row of ``tenants``."""

    id: str
    name: str
    created_at: datetime
    limits: TenantLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantUse:
    """What a tenant uses now, of what its quota limits."""

    running_jobs: int = 0
    """Jobs that were admitted and have not ended."""
    live_chunks: int = 0
    """Chunks with workers: published to a device or running."""
    enqueued_tokens: int = 0
    """Estimated tokens of these jobs that have not run yet."""
    stored_bytes: int = 0
    """Bytes of files, inline inputs and results that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantDetails:
    """A tenant as the administrator sees it."""

    tenant: Tenant
    quota: TenantQuota
    """What holds: what was set, else the default."""
    use: TenantUse
