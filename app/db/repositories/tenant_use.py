"""What tenants use of their quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select

from app.db.repositories.stored_bytes import StoredBytes
from app.db.tables import chunks, jobs
from app.domain.states import RUNNABLE_JOB_STATES, ChunkState
from app.domain.tenants import TenantUse

_WITH_WORKERS = (ChunkState.GRANTED, ChunkState.RUNNING)


class TenantUses:
    """Counts what tenants use, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def of(self, tenant_ids: Sequence[str]) -> dict[str, TenantUse]:
        """What each of these tenants uses now."""
        n_chunks = self._by_tenant(_chunks_with_workers(tenant_ids))
        n_running, n_tokens = self._admitted(tenant_ids)
        n_bytes = StoredBytes(self._connection).of(tenant_ids)
        return {
            tenant_id: TenantUse(
                running_jobs=n_running.get(tenant_id, 0),
                live_chunks=n_chunks.get(tenant_id, 0),
                enqueued_tokens=n_tokens.get(tenant_id, 0),
                stored_bytes=n_bytes[tenant_id],
            )
            for tenant_id in tenant_ids
        }

    def _by_tenant(self, query: Select[Any]) -> dict[str, int]:
        return {tenant_id: int(number) for tenant_id, number in self._connection.execute(query)}

    def _admitted(self, tenant_ids: Sequence[str]) -> tuple[dict[str, int], dict[str, int]]:
        """How many jobs of each tenant hold a place, and the tokens that these still have to run."""
        query = (
            select(jobs.c.tenant_id, func.count(), func.sum(jobs.c.remaining_tokens))
            .where(
                jobs.c.tenant_id.in_(tenant_ids),
                jobs.c.state.in_(RUNNABLE_JOB_STATES),
                jobs.c.admitted_at.is_not(None),
                jobs.c.stop_reason.is_(None),
            )
            .group_by(jobs.c.tenant_id)
        )
        rows = self._connection.execute(query).all()
        return {row[0]: row[1] for row in rows}, {row[0]: int(row[2]) for row in rows}


def _chunks_with_workers(tenant_ids: Sequence[str]) -> Select[Any]:
    return (
        select(chunks.c.tenant_id, func.count())
        .where(chunks.c.tenant_id.in_(tenant_ids), chunks.c.state.in_(_WITH_WORKERS))
        .group_by(chunks.c.tenant_id)
    )
