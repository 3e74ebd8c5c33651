"""Rows of ``tenants``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import tenants
from app.domain.ids import new_id
from app.domain.pages import Page, page_of
from app.domain.tenants import QUOTA_FIELDS, Tenant, TenantLimits, TenantQuota, TenantQuotas, is_tenant_name
from app.errors import NotFound

_LIMITS = tuple(tenants.c[field] for field in QUOTA_FIELDS)
_COLUMNS = (tenants.c.id, tenants.c.name, tenants.c.created_at, *_LIMITS)


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

    def named(self, name: str, *, for_update: bool = False) -> Tenant:
        """The tenant with this name.

        Args:
            for_update: lock the row until the end of the transaction.
        Raises:
            NotFound: there is none.
        """
        query = select(*_COLUMNS).where(tenants.c.name == name)
        query = query.with_for_update(key_share=True) if for_update else query
        row = self._connection.execute(query).one_or_none() if is_tenant_name(name) else None
        if row is None:
            raise NotFound(f"there is no tenant {name[:80]!r}; a tenant is made with its first key", param="tenant")
        return _tenant(row)

    def list(self, *, limit: int, after: str | None = None) -> Page[Tenant]:
        """Tenants by name, behind the name ``after``."""
        query = select(*_COLUMNS).order_by(tenants.c.name).limit(limit + 1)
        if after is not None:
            query = query.where(tenants.c.name > after)
        return page_of([_tenant(row) for row in self._connection.execute(query)], limit)

    def set_limits(self, tenant_id: str, changes: dict[str, Any]) -> Tenant:
        """Set these limits and leave the others; None takes a limit back to the installation's default."""
        statement = update(tenants).where(tenants.c.id == tenant_id).values(changes).returning(*_COLUMNS)
        return _tenant(self._connection.execute(statement).one())

    def quotas(self, defaults: TenantQuota) -> TenantQuotas:
        """The quotas of all tenants; only rows in which something was set are read."""
        query = select(tenants.c.id, *_LIMITS).where(or_(*(column.is_not(None) for column in _LIMITS)))
        own = {tenant_id: _limits(values).over(defaults) for tenant_id, *values in self._connection.execute(query)}
        return TenantQuotas(defaults, own)

    def quota(self, tenant_id: str, defaults: TenantQuota) -> TenantQuota:
        """The quota that holds for one tenant."""
        row = self._connection.execute(select(*_LIMITS).where(tenants.c.id == tenant_id)).one_or_none()
        return defaults if row is None else _limits(row).over(defaults)


def _tenant(row: Sequence[Any]) -> Tenant:
    tenant_id, name, created_at, *limits = row
    return Tenant(id=tenant_id, name=name, created_at=created_at, limits=_limits(limits))


def _limits(values: Sequence[Any]) -> TenantLimits:
    return TenantLimits(**dict(zip(QUOTA_FIELDS, values, strict=True)))
