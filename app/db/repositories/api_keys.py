"""Rows of ``api_keys``. They are the one thing that is looked up without a tenant: they say who the tenant is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, func, insert, or_, select, update

from app.db.tables import api_keys, tenants
from app.domain.api_keys import ApiKey
from app.errors import NotFound

USE_RESOLUTION = timedelta(minutes=1)
_COLUMNS = (
    api_keys.c.id,
    api_keys.c.tenant_id,
    tenants.c.name.label("tenant"),
    api_keys.c.name,
    api_keys.c.created_at,
    api_keys.c.last_used_at,
    api_keys.c.expires_at,
    api_keys.c.revoked_at,
)


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What is needed to check a key."""

    tenant_id: str
    hash: bytes


class ApiKeys:
    """The keys of all tenants, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, *, key_id: str, tenant_id: str, key_hash: bytes, name: str) -> None:
        """Insert a key."""
        self._connection.execute(insert(api_keys).values(id=key_id, tenant_id=tenant_id, hash=key_hash, name=name))

    def usable(self, key_id: str) -> KeyCheck | None:
        """What to check a key against; None where there is none, or it is revoked or expired."""
        row = self._connection.execute(
            select(api_keys.c.tenant_id, api_keys.c.hash).where(
                api_keys.c.id == key_id,
                api_keys.c.revoked_at.is_(None),
                or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > func.now()),
            )
        ).one_or_none()
        return None if row is None else KeyCheck(tenant_id=row.tenant_id, hash=bytes(row.hash))

    def note_use(self, key_id: str) -> None:
        """Write down that a key was used, at most once a minute."""
        is_old = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < func.now() - USE_RESOLUTION)
        self._connection.execute(
            update(api_keys).where(api_keys.c.id == key_id, is_old).values(last_used_at=func.now())
        )

    def list(self, *, tenant: str | None = None) -> list[ApiKey]:
        """Every key, newest first; of one tenant where its name is given."""
        query = select(*_COLUMNS).join(tenants, tenants.c.id == api_keys.c.tenant_id)
        if tenant is not None:
            query = query.where(tenants.c.name == tenant)
        rows = self._connection.execute(query.order_by(api_keys.c.created_at.desc(), api_keys.c.id)).mappings()
        return [ApiKey(**row) for row in rows]

    def revoke(self, key_id: str) -> None:
        """Make a key useless from now on; revoking twice is no error.

        Raises:
            NotFound: no such key.
        """
        done = self._connection.execute(
            update(api_keys)
            .where(api_keys.c.id == key_id)
            .values(revoked_at=func.coalesce(api_keys.c.revoked_at, func.now()))
        )
        if done.rowcount != 1:
            raise NotFound(f"there is no key with the id {key_id[:80]!r}")
