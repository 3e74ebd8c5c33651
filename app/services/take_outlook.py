"""Work out why every job waits and when it will end, and write that down: one row for each pool.

The leading dispatcher does it beside its looks, as often as it stays cheap. Jobs that will miss their window at the
measured rate are made urgent by the way, where they asked for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

from app.db.repositories.outlooks import JobInView, Outlooks
from app.db.repositories.workers import LiveWorker, Workers
from app.db.session import Database
from app.domain.fairness import Standing
from app.domain.forecast import Backlog, Forecast, forecast
from app.domain.outlook import JobOutlook, PoolOutlook, QuotaHit
from app.domain.tenant_places import Cap
from app.domain.tenants import TenantQuota, TenantQuotas
from app.services.escalate_jobs import Cause, escalate
from app.services.grant_chunks import Turns
from app.services.model_placement import configured_pools
from app.services.tenant_quotas import tenant_quotas
from app.services.work_picture import Rates, WorkPicture
from config.settings import Settings

EVERY_S, MOST_S = 1.0, 8.0
SHARE_OF_TIME = 0.1
"""Taking outlooks may cost this much of a core; with very many jobs it comes less often, down to every ``MOST_S``."""
FORGET_AFTER_S = 3_600.0
SHORTEST_PROGRESS_S = 0.5
"""A job whose finished chunks took less says more about overheads than about its speed."""


class OutlookTaker:
    """Takes outlooks for the dispatcher that leads."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._due_s = 0.0

    def is_due(self) -> bool:
        """Whether it is time for the next; where it is, it has to be taken."""
        if time.monotonic() < self._due_s:
            return False
        self._due_s = math.inf
        return True

    def take(self, workers: Sequence[LiveWorker], *, turns: Turns, broker_away_s: float | None) -> None:
        """Take the outlook of every pool.

        Args:
            broker_away_s: for how long nothing could be published; None where it could.
        """
        began_s = time.monotonic()
        try:
            self._take(workers, turns, broker_away_s)
        finally:
            ended_s = time.monotonic()
            self._due_s = ended_s + min(MOST_S, max(EVERY_S, (ended_s - began_s) / SHARE_OF_TIME))

    def _take(self, workers: Sequence[LiveWorker], turns: Turns, broker_away_s: float | None) -> None:
        queues = self._queues(workers)
        picture, quotas = self._picture(workers, turns.kept_back)
        late: list[str] = []
        outlooks = []
        for pool in sorted({*queues, *(job.pool for job in picture.jobs)}):
            own = [job for job in picture.jobs if job.pool == pool]
            backlog = [picture.backlog(job) for job in own]
            free_in_s = [picture.free_in_s[queue] for queue in queues.get(pool, ())]
            foretold = _foretold(backlog, free_in_s, quotas, turns.standings.get(pool))
            late += _too_late(own, backlog, foretold)
            jobs = {
                job.id: _job_outlook(foretold[job.id], turns.kept_back.get(job.id), quotas.of(job.tenant_id))
                for job in own
                if foretold
            }
            backlog_s = sum(free_in_s) + sum(each.ready.seconds + each.later.seconds for each in backlog)
            n_waiting = sum(not each.is_running for each in backlog)
            outlooks.append(PoolOutlook(pool, len(free_in_s), n_waiting, backlog_s, broker_away_s, jobs))
        with self._database.begin() as connection:
            Outlooks(connection).keep(outlooks, forget_after_s=FORGET_AFTER_S)
        escalate(database=self._database, job_ids=late, cause=Cause.RATE)

    def _queues(self, workers: Sequence[LiveWorker]) -> dict[str, list[str]]:
        """The queues of the live workers of each pool; pools of this installation without any are named as well."""
        queues: dict[str, list[str]] = {pool: [] for pool in configured_pools(self._settings.queues)}
        for worker in workers:
            queues.setdefault(worker.pool, []).append(worker.queue)
        return queues

    def _picture(self, workers: Sequence[LiveWorker], kept_back: Mapping[str, Cap]) -> tuple[WorkPicture, TenantQuotas]:
        with self._database.begin() as connection:
            found = Outlooks(connection)
            busy = found.chunks_in_view()
            speeds = found.speeds({chunk.job_id for chunk in busy}, shortest_s=SHORTEST_PROGRESS_S)
            picture = WorkPicture(
                found.jobs_in_view(),
                busy,
                rates=Rates(speeds, Workers(connection).rates()),
                kept_back=kept_back,
                live_queues=[worker.queue for worker in workers],
            )
            return picture, tenant_quotas(connection, self._settings)


def _foretold(
    backlog: Sequence[Backlog], free_in_s: Sequence[float], quotas: TenantQuotas, standing: Standing | None
) -> dict[str, Forecast]:
    """What is expected of each job; nothing where no worker lives."""
    if not free_in_s:
        return {}
    own = {job.tenant_id: quotas.of(job.tenant_id) for job in backlog}
    return forecast(
        backlog,
        workers_free_in_s=free_in_s,
        standing=standing,
        weights={tenant_id: quota.weight for tenant_id, quota in own.items()},
        max_chunks={id_: quota.max_chunks for id_, quota in own.items() if quota.max_chunks < len(free_in_s)},
    )


def _job_outlook(foretold: Forecast, cap: Cap | None, quota: TenantQuota) -> JobOutlook:
    return JobOutlook(
        position=foretold.position,
        starts_in_s=foretold.starts_in_s,
        eta=foretold.eta,
        kept_back=None if cap is None else QuotaHit(cap, getattr(quota, cap)),
    )


def _too_late(jobs: Sequence[JobInView], backlog: Sequence[Backlog], foretold: Mapping[str, Forecast]) -> Iterator[str]:
    """Jobs that will miss their window at the measured rate, and asked to be hurried then."""
    for job, left in zip(jobs, backlog, strict=True):
        ends_in_s = foretold[job.id].eta.seconds if job.id in foretold else 0.0
        if job.may_escalate and left.is_measured and ends_in_s > job.deadline_in_s:
            yield job.id
