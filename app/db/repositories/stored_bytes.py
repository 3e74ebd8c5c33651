"""How many bytes each tenant stores: one number a tenant, changed in the transaction that stores or frees.

Whoever changes it holds the tenant's row until the end of its transaction, so of two that store at once the second sees
what the first has added. The row of a job or a file is always locked before it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import files, jobs, result_parts, tenant_storage


class StoredBytes:
    """The counters of tenants, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tenant_id: str, n_bytes: int) -> None:
        """Count what is stored from now on; what is freed is below zero."""
        if not n_bytes:
            return
        statement = insert(tenant_storage).values(tenant_id=tenant_id, stored_bytes=n_bytes)
        total = tenant_storage.c.stored_bytes + statement.excluded.stored_bytes
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"stored_bytes": total})
        )

    def hold(self, tenant_id: str) -> None:
        """Let nobody else store or free for this tenant until this transaction has ended."""
        statement = insert(tenant_storage).values(tenant_id=tenant_id, stored_bytes=0)
        same = {"stored_bytes": tenant_storage.c.stored_bytes}
        self._connection.execute(statement.on_conflict_do_update(index_elements=["tenant_id"], set_=same))

    def of(self, tenant_ids: Sequence[str]) -> dict[str, int]:
        """What each of these tenants stores, as far as this transaction sees."""
        query = select(tenant_storage.c.tenant_id, tenant_storage.c.stored_bytes)
        rows = self._connection.execute(query.where(tenant_storage.c.tenant_id.in_(tenant_ids)))
        return dict.fromkeys(tenant_ids, 0) | {tenant_id: int(n_bytes) for tenant_id, n_bytes in rows}

    def tenant_ids(self) -> Sequence[str]:
        """Every tenant that ever stored anything."""
        return self._connection.execute(select(tenant_storage.c.tenant_id)).scalars().all()

    def recount(self, tenant_id: str) -> int:
        """Set a tenant's number to what its rows say; gives by how much it was wrong.

        The row is locked first: whoever has counted holds it, and whoever has not will count on top of this.
        """
        own = tenant_storage.c.tenant_id == tenant_id
        query = select(tenant_storage.c.stored_bytes).where(own).with_for_update()
        counted = self._connection.execute(query).scalar_one()
        stored = int(self._connection.execute(select(_sum_of_rows(tenant_id))).scalar_one())
        if stored != counted:
            self._connection.execute(update(tenant_storage).where(own).values(stored_bytes=stored))
        return int(stored - counted)


def _sum_of_rows(tenant_id: str) -> ColumnElement[int]:
    """Every object that a row of the tenant stands for: uploads, inline inputs, results."""
    uploads = select(func.sum(files.c.size_bytes)).where(
        files.c.tenant_id == tenant_id, files.c.object_key.is_not(None), files.c.deleted_at.is_(None), ~files.c.swept
    )
    inputs = select(func.sum(jobs.c.input_size_bytes)).where(
        jobs.c.tenant_id == tenant_id, jobs.c.input_file_id.is_(None), ~jobs.c.results_swept
    )
    results = (
        select(func.sum(result_parts.c.size_bytes))
        .join(jobs, jobs.c.id == result_parts.c.job_id)
        .where(result_parts.c.tenant_id == tenant_id, ~jobs.c.results_swept)
    )
    return _or_zero(uploads) + _or_zero(inputs) + _or_zero(results)


def _or_zero(query: Select[tuple[int]]) -> ColumnElement[int]:
    return func.coalesce(query.scalar_subquery(), 0)
