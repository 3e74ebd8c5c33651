"""How full the queue of a tenant is, and how fast it drains."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, func, select

from app.db.repositories.groups import Groups
from app.db.tables import jobs
from app.domain.backpressure import MEASURED_S, MOST_ENDED, retry_after_s
from app.domain.states import LIVE_JOB_STATES


class JobQueues:
    """Looks at the unfinished jobs of tenants, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def count_live(self, tenant_id: str, *, at_most: int) -> int:
        """Unfinished jobs of a tenant, a group as one, counted no further than ``at_most`` of either."""
        conditions = (jobs.c.tenant_id == tenant_id, jobs.c.state.in_(LIVE_JOB_STATES), jobs.c.group_id.is_(None))
        live = select(jobs.c.id).where(*conditions).limit(at_most)
        n_jobs: int = self._connection.execute(select(func.count()).select_from(live.subquery())).scalar_one()
        return n_jobs + Groups(self._connection).count_open(tenant_id, at_most=at_most)

    def take_turns(self, tenant_id: str) -> None:
        """Let no other transaction of this tenant pass here until this one has ended."""
        key = func.hashtextextended(f"job queue {tenant_id}", 0)
        self._connection.execute(select(func.pg_advisory_xact_lock(key)))

    def next_end_after_s(self, tenant_id: str) -> float:
        """When a tenant's next job will end, at the rate of those that ended last."""
        ended = (
            select(jobs.c.finished_at)
            .where(jobs.c.tenant_id == tenant_id, jobs.c.finished_at > func.now() - timedelta(seconds=MEASURED_S))
            .order_by(jobs.c.finished_at.desc())
            .limit(MOST_ENDED)
            .subquery()
        )
        since_s = func.extract("epoch", func.now() - func.min(ended.c.finished_at))
        n_ended, within_s = self._connection.execute(select(func.count(), since_s).select_from(ended)).one()
        return retry_after_s(n_ended=n_ended, within_s=float(within_s or 0))
