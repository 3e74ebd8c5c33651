"""Rows of ``tenants``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, or_, select
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import tenants
from app.domain.ids import new_id
from app.domain.tenants import QUOTA_FIELDS, TenantLimits, TenantQuota, TenantQuotas

_LIMITS = tuple(tenants.c[field] for field in QUOTA_FIELDS)


class Tenants:
    """Everybody who has keys."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def id_of(self, name: str) -> str:
        """The id of the tenant with this name, made where it is new."""
        self._connection.execute(
            insert(tenants).values(id=new_id("tenant_"), name=name).on_conflict_do_nothing(index_elements=["name"])
        )
        found: str = self._connection.execute(select(tenants.c.id).where(tenants.c.name == name)).scalar_one()
        return found

    def quotas(self, defaults: TenantQuota) -> TenantQuotas:
        """The quotas of all tenants; only rows in which something was set are read."""
        query = select(tenants.c.id, *_LIMITS).where(or_(*(column.is_not(None) for column in _LIMITS)))
        own = {tenant_id: _limits(values).over(defaults) for tenant_id, *values in self._connection.execute(query)}
        return TenantQuotas(defaults, own)

    def quota(self, tenant_id: str, defaults: TenantQuota) -> TenantQuota:
        """The quota that holds for one tenant."""
        row = self._connection.execute(select(*_LIMITS).where(tenants.c.id == tenant_id)).one_or_none()
        return defaults if row is None else _limits(row).over(defaults)


def _limits(values: Sequence[Any]) -> TenantLimits:
    return TenantLimits(**dict(zip(QUOTA_FIELDS, values, strict=True)))
