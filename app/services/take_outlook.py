"""Work out why every job waits and when it will end, and write that down: one row for each pool.

The leading dispatcher does it beside its looks, as often as it stays cheap. Jobs that will miss their window at the
measured rate are made urgent by the way, where they asked for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection

from app.db.repositories.outlooks import JobInView, Outlooks
from app.db.repositories.workers import LiveWorker, Workers
from app.db.session import Database
from app.domain.forecast import Backlog, Forecast
from app.domain.outlook import JobOutlook
from app.domain.tenants import TenantQuotas
from app.services.escalate_jobs import Cause, escalate
from app.services.fleet_view import FleetView, pool_outlooks
from app.services.grant_chunks import Turns
from app.services.model_lanes import LaneWorkers, ModelLanes, lanes_of
from app.services.model_placement import configured_pools
from app.services.pool_rates import PoolRates
from app.services.tenant_quotas import tenant_quotas
from app.services.work_picture import Rates, WorkPicture, speeds_of
from config.models import ModelSpec
from config.settings import Settings

EVERY_S, MOST_S = 1.0, 8.0
SHARE_OF_TIME = 0.1
"""Taking outlooks may cost this much of a core; with very many jobs it comes less often, down to every ``MOST_S``."""
FORGET_AFTER_S = 3_600.0


class OutlookTaker:
    """Takes outlooks for the dispatcher that leads."""

    def __init__(self, settings: Settings, models: Mapping[str, ModelSpec], database: Database) -> None:
        self._settings = settings
        self._models = models
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
        with self._database.begin() as connection:
            quotas = tenant_quotas(connection, self._settings)
            view = self._view(connection, workers, turns, quotas)
        jobs: dict[str, JobOutlook] = {}
        late: list[str] = []
        for lanes in sorted(set(view.lanes.values()) - {()}):
            foretold = view.foretell(lanes)
            jobs |= {job.id: view.outlook(job, foretold[job.id], lanes) for job in view.jobs_of(lanes)}
            late += _too_late(view.jobs_of(lanes), view.backlog, foretold)
        with self._database.begin() as connection:
            Outlooks(connection).keep(
                pool_outlooks(view, jobs, configured_pools(self._settings.queues), broker_away_s),
                forget_after_s=FORGET_AFTER_S,
            )
        escalate(database=self._database, job_ids=late, cause=Cause.RATE)

    def _view(
        self, connection: Connection, workers: Sequence[LiveWorker], turns: Turns, quotas: TenantQuotas
    ) -> FleetView:
        found = Outlooks(connection)
        busy = found.chunks_in_view()
        progress = found.progress({chunk.job_id for chunk in busy})
        of_models = Workers(connection).rates()
        model_lanes = ModelLanes(self._models, lanes_of(workers), PoolRates(self._models, of_models))
        jobs = found.jobs_in_view()
        lanes = {job.id: model_lanes.of(job.model, job.model_version) for job in jobs}
        crew = LaneWorkers(workers)
        n_by_pool = {able: crew.n_by_pool(able) for able in set(lanes.values())}
        picture = WorkPicture(
            jobs,
            busy,
            progress=progress,
            rates=Rates(speeds_of(progress), of_models, lambda job: n_by_pool[lanes[job.id]]),
            kept_back=turns.kept_back,
            live_queues=[worker.queue for worker in workers],
        )
        return FleetView(picture, lanes, crew, turns, quotas)


def _too_late(
    jobs: Sequence[JobInView], backlog: Mapping[str, Backlog], foretold: Mapping[str, Forecast]
) -> Iterator[str]:
    """Jobs that will miss their window at the measured rate, and asked to be hurried then."""
    for job in jobs:
        misses = foretold[job.id].eta.seconds > job.deadline_in_s
        if job.may_escalate and backlog[job.id].is_measured and misses:
            yield job.id
