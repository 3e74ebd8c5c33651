"""How many bytes each tenant stores: a few numbers a tenant, changed in the transaction that stores or frees.

Whoever changes one holds its row until the end of its transaction. There are several, and a connection always takes the
same one, so that a tenant's requests do not wait for one another's commits: with a single row, fifty submits a second
were enough to make them wait for seconds. Only the sum means anything; a single number may be below zero.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Connection, Select, func, select, union_all
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import files, jobs, result_parts, tenant_storage, tenant_storage_stripes

N_STRIPES = 16
_OWN_STRIPE = func.pg_backend_pid() % N_STRIPES
_stripes = tenant_storage_stripes.c
_ALL = union_all(
    select(_stripes.tenant_id, _stripes.stored_bytes), select(tenant_storage.c.tenant_id, tenant_storage.c.stored_bytes)
).subquery("stored")
"""The stripes, and the number of before there were any."""


class StoredBytes:
    """The counters of tenants, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tenant_id: str, n_bytes: int) -> None:
        """Count what is stored from now on; what is freed is below zero."""
        if not n_bytes:
            return
        statement = insert(tenant_storage_stripes).values(tenant_id=tenant_id, stripe=_OWN_STRIPE, stored_bytes=n_bytes)
        total = _stripes.stored_bytes + statement.excluded.stored_bytes
        self._connection.execute(
            statement.on_conflict_do_update(index_elements=["tenant_id", "stripe"], set_={"stored_bytes": total})
        )

    def take_turns(self, tenant_id: str) -> None:
        """Let no other transaction of this tenant pass here until this one has ended."""
        key = func.hashtextextended(f"stored bytes {tenant_id}", 0)
        self._connection.execute(select(func.pg_advisory_xact_lock(key)))

    def of(self, tenant_ids: Sequence[str]) -> dict[str, int]:
        """What each of these tenants stores, as far as this transaction sees."""
        query = select(_ALL.c.tenant_id, func.sum(_ALL.c.stored_bytes))
        query = query.where(_ALL.c.tenant_id.in_(tenant_ids)).group_by(_ALL.c.tenant_id)
        return dict.fromkeys(tenant_ids, 0) | {tenant_id: int(n) for tenant_id, n in self._connection.execute(query)}

    def tenant_ids(self) -> Sequence[str]:
        """Every tenant that ever stored anything."""
        return self._connection.execute(select(_ALL.c.tenant_id).distinct()).scalars().all()

    def recount(self, tenant_id: str) -> int:
        """Set a tenant's numbers to what its rows say; gives by how much they were wrong.

        All of them are locked first: whoever has counted holds one, and whoever has not will count on top of this.
        """
        counted = sum(self._lock_all(tenant_id))
        stored = int(self._connection.execute(select(_sum_of_rows(tenant_id))).scalar_one())
        self.add(tenant_id, stored - counted)
        return stored - counted

    def _lock_all(self, tenant_id: str) -> Sequence[int]:
        missing = [{"tenant_id": tenant_id, "stripe": stripe} for stripe in range(N_STRIPES)]
        self._connection.execute(insert(tenant_storage_stripes).on_conflict_do_nothing(), missing)
        stripes = select(_stripes.stored_bytes).where(_stripes.tenant_id == tenant_id).order_by(_stripes.stripe)
        before = select(tenant_storage.c.stored_bytes).where(tenant_storage.c.tenant_id == tenant_id)
        locked = [self._connection.execute(query.with_for_update()) for query in (before, stripes)]
        return [n_bytes for result in locked for n_bytes in result.scalars()]


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
