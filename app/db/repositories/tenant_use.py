"""What tenants use of their quotas, counted from the rows of live work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select, union_all

from app.db.tables import chunks, files, jobs, result_parts
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
        n_bytes = self._by_tenant(_stored_bytes(tenant_ids))
        return {
            tenant_id: TenantUse(
                running_jobs=n_running.get(tenant_id, 0),
                live_chunks=n_chunks.get(tenant_id, 0),
                enqueued_tokens=n_tokens.get(tenant_id, 0),
                stored_bytes=n_bytes.get(tenant_id, 0),
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


def _stored_bytes(tenant_ids: Sequence[str]) -> Select[Any]:
    """Sum every object that a row stands for: uploads, inline inputs, results."""
    uploads = select(files.c.tenant_id, files.c.size_bytes).where(
        files.c.object_key.is_not(None), files.c.deleted_at.is_(None), ~files.c.swept
    )
    inputs = select(jobs.c.tenant_id, jobs.c.input_size_bytes).where(
        jobs.c.input_file_id.is_(None), ~jobs.c.results_swept
    )
    results = (
        select(result_parts.c.tenant_id, result_parts.c.size_bytes)
        .join(jobs, jobs.c.id == result_parts.c.job_id)
        .where(~jobs.c.results_swept)
    )
    stored = union_all(uploads, inputs, results).subquery()
    return (
        select(stored.c.tenant_id, func.sum(stored.c.size_bytes))
        .where(stored.c.tenant_id.in_(tenant_ids))
        .group_by(stored.c.tenant_id)
    )
