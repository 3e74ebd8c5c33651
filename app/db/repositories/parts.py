"""Rows of ``result_parts``: the immutable objects that hold a job's result lines."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, func, select

from app.db.tables import jobs, result_parts
from app.domain.jobs import ResultPart
from app.domain.manifests import GroupPart

_COLUMNS = (
    result_parts.c.seq,
    result_parts.c.outcome,
    result_parts.c.object_key,
    result_parts.c.size_bytes,
    result_parts.c.n_items,
    result_parts.c.sha256,
)


class Parts:
    """The result parts of jobs, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(
        self, tenant_id: str, job_id: str, *, outcomes: Collection[str] | None = None, from_seq: int = 0
    ) -> list[ResultPart]:
        """A job's parts that stand, in the order of its result stream.

        Args:
            outcomes: only parts of these; None for all.
            from_seq: the first place wanted.
        """
        query = select(*_COLUMNS).where(
            result_parts.c.tenant_id == tenant_id,
            result_parts.c.job_id == job_id,
            result_parts.c.seq >= from_seq,
            result_parts.c.superseded_in.is_(None),
        )
        if outcomes is not None:
            query = query.where(result_parts.c.outcome.in_(outcomes))
        rows = self._connection.execute(query.order_by(result_parts.c.seq)).mappings()
        return [ResultPart(**row) for row in rows]

    def of_group(self, tenant_id: str, group_id: str) -> builtins.list[GroupPart]:
        """The parts of all jobs of a group that stand, in the order of its result stream."""
        query = (
            select(result_parts.c.job_id, *_COLUMNS)
            .join(jobs, jobs.c.id == result_parts.c.job_id)
            .where(jobs.c.tenant_id == tenant_id, jobs.c.group_id == group_id, result_parts.c.superseded_in.is_(None))
            .order_by(jobs.c.group_ordinal, result_parts.c.seq)
        )
        return [GroupPart(**row) for row in self._connection.execute(query).mappings()]

    def superseded_after(self, tenant_id: str, job_id: str, run: int) -> Sequence[int]:
        """Places of the parts that stood at a job's run ``run`` and were superseded since."""
        query = select(result_parts.c.seq).where(
            result_parts.c.tenant_id == tenant_id,
            result_parts.c.job_id == job_id,
            result_parts.c.superseded_in > run,
        )
        return self._connection.execute(query).scalars().all()

    def expired_among(self, tenant_id: str, job_ids: Collection[str]) -> set[str]:
        """Those of a tenant's jobs whose results have reached the end of their life."""
        query = select(jobs.c.id).where(
            jobs.c.tenant_id == tenant_id, jobs.c.id.in_(job_ids), jobs.c.results_expire_at <= func.now()
        )
        return set(self._connection.execute(query).scalars())

    def are_expired(self, tenant_id: str, job_id: str) -> bool:
        """Whether a job's results have reached the end of their life."""
        query = select(jobs.c.results_expire_at <= func.now()).where(jobs.c.tenant_id == tenant_id, jobs.c.id == job_id)
        return bool(self._connection.execute(query).scalar_one_or_none())
