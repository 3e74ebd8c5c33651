"""Jobs beside the live workers that can take them, and what follows for each: a model may live on several pools.

Jobs that the same lanes can take are foretold together, over all workers of those lanes. Jobs that can also run
elsewhere are met there with the share of their work that these workers will do.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from app.db.repositories.outlooks import JobInView
from app.domain.forecast import Backlog, Forecast, forecast
from app.domain.outlook import JobOutlook, PoolOutlook, QuotaHit
from app.domain.tenants import TenantQuotas
from app.services.grant_chunks import Turns
from app.services.model_lanes import LaneWorkers
from app.services.work_picture import WorkPicture
from config.queues import pool_of

Lanes = tuple[str, ...]


@dataclass(slots=True)
class FleetView:
    """Everything that outlooks follow from, as it was read."""

    picture: WorkPicture
    lanes: Mapping[str, Lanes]
    """The lanes that can take each job; none where no live worker can."""
    workers: LaneWorkers
    turns: Turns
    quotas: TenantQuotas
    backlog: Mapping[str, Backlog] = field(init=False)
    """What is left of each job."""

    def __post_init__(self) -> None:
        self.backlog = {job.id: self.picture.backlog(job) for job in self.picture.jobs}

    def jobs_of(self, lanes: Lanes) -> list[JobInView]:
        """The jobs that exactly these lanes can take."""
        return [job for job in self.picture.jobs if self.lanes[job.id] == lanes]

    def foretell(self, lanes: Lanes) -> dict[str, Forecast]:
        """What is expected of the jobs that these lanes can take, among all that may come to their workers."""
        shares = {able: self._share(able, lanes) for able in set(self.lanes.values())}
        met = [self.backlog[id_].part(share) for id_, able in self.lanes.items() if (share := shares[able])]
        free_in_s = [self.picture.free_in_s[queue] for queue in self.workers.queues(lanes)]
        own = {job.tenant_id: self.quotas.of(job.tenant_id) for job in met}
        return forecast(
            met,
            workers_free_in_s=free_in_s,
            standing=self.turns.standings.get(self.workers.largest(lanes)),
            weights={tenant_id: quota.weight for tenant_id, quota in own.items()},
            max_chunks={id_: quota.max_chunks for id_, quota in own.items() if quota.max_chunks < len(free_in_s)},
        )

    def outlook(self, job: JobInView, foretold: Forecast, lanes: Lanes) -> JobOutlook:
        """What is told of a job."""
        cap = self.turns.kept_back.get(job.id)
        return JobOutlook(
            position=foretold.position,
            starts_in_s=foretold.starts_in_s,
            eta=foretold.eta,
            n_workers=len(self.workers.queues(lanes)),
            kept_back=None if cap is None else QuotaHit(cap, getattr(self.quotas.of(job.tenant_id), cap)),
        )

    def backlog_s(self) -> dict[str, float]:
        """Device seconds that are left to each pool; a job that several can take is shared among their workers."""
        seconds: dict[str, float] = defaultdict(float)
        for queue, free_in_s in self.picture.free_in_s.items():
            seconds[pool_of(queue)] += free_in_s
        parts = {able: self.workers.n_by_pool(able) for able in set(self.lanes.values())}
        for job in self.picture.jobs:
            n_by_pool = parts[self.lanes[job.id]] or {job.pool: 1}
            for pool, n_workers in n_by_pool.items():
                seconds[pool] += self.backlog[job.id].seconds * n_workers / sum(n_by_pool.values())
        return seconds

    def _share(self, able: Lanes, lanes: Lanes) -> float:
        """The share of the workers of ``able`` that are in ``lanes``."""
        n_able = len(self.workers.queues(able))
        return len(self.workers.queues(set(able) & set(lanes))) / n_able if n_able else 0.0


def pool_outlooks(
    view: FleetView, jobs: Mapping[str, JobOutlook], pools: Collection[str], broker_away_s: float | None
) -> list[PoolOutlook]:
    """The outlook of each pool that has jobs or workers, and of some others.

    Args:
        jobs: what is told of each job that a live worker can take.
        pools: those to be named whatever there is.
    """
    backlog_s = view.backlog_s()
    n_workers = Counter(pool_of(queue) for queue in view.picture.free_in_s)
    of_pools: dict[str, list[JobInView]] = {pool: [] for pool in sorted({*pools, *n_workers, *backlog_s})}
    for job in view.picture.jobs:
        of_pools.setdefault(job.pool, []).append(job)
    return [
        PoolOutlook(
            pool=pool,
            n_workers=n_workers[pool],
            n_waiting=_n_waiting(own, view.backlog),
            backlog_s=backlog_s.get(pool, 0.0),
            broker_away_s=broker_away_s,
            jobs={job.id: jobs.get(job.id) for job in own},
        )
        for pool, own in of_pools.items()
    ]


def _n_waiting(jobs: Sequence[JobInView], backlog: Mapping[str, Backlog]) -> int:
    return sum(not backlog[job.id].is_running for job in jobs)
