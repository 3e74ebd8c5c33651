"""Fill the free slots of every pool, in the order that is fair.

The picture of who waits is kept between looks and follows the rows: read whole at first and now and then, else only
what changed. Nothing of it is needed: a dispatcher that takes over reads it from the rows.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog
from sqlalchemy import Connection

from app.db.repositories.dispatching import BusyChunk, ChunkEnd, Dispatching, Granted
from app.db.repositories.queued_jobs import QueuedJobs
from app.db.repositories.workers import LiveWorker, Workers
from app.domain.fairness import Standing
from app.domain.jobs import Priority
from app.domain.placement import Lane
from app.domain.states import ChunkState
from app.domain.tenant_places import Cap, QueuedJob
from app.domain.tenants import TenantQuotas
from app.domain.work_queue import WorkQueue
from app.ports import Grant
from app.services.model_lanes import Lanes, ModelLanes, lane_of, lanes_of
from app.services.pool_rates import PoolRates
from app.services.tenant_quotas import default_quota, tenant_quotas
from config.models import ModelSpec
from config.settings import Settings

log = structlog.get_logger(__name__)

CHUNKS_PER_WORKER = 2
"""One runs and one waits behind it; more would decide too early who is next."""
WHOLE_READ_S = 60.0
"""How often the picture is read anew, whatever seems to have changed."""
RECOUNT_S = 600.0
"""How often what is left of jobs is counted from their chunks, which takes a second where a million wait."""

VAIN_QUESTIONS = 20
"""After so many jobs in a row that had nothing ready, all the others are asked at once."""
MOST_VAIN_QUESTIONS = 100
"""In one look; the rest comes with the next."""

Waves = dict[str, list[Grant]]
"""What is to be published, by job."""


@dataclass(frozen=True, slots=True)
class _Charge:
    """What was booked for a chunk that is with a worker."""

    lane: str
    priority: Priority
    tenant_id: str
    cost_s: float
    attempt: int

    def used_s(self, end: ChunkEnd) -> float | None:
        """Device seconds it used; None where that is not known, as of a chunk whose worker died."""
        if end.state is ChunkState.DONE:
            return end.device_s
        return 0.0 if end.attempt == self.attempt else None


@dataclass(frozen=True, slots=True)
class Turns:
    """Whom a quota keeps back, and how classes and tenants stand to each other in each pool with workers; a copy."""

    kept_back: Mapping[str, Cap]
    standings: Mapping[str, Standing]


class ChunkGranter:
    """Decides who is next, look after look."""

    def __init__(self, settings: Settings, models: Mapping[str, ModelSpec]) -> None:
        self._settings = settings
        self._models = models
        self.forget()

    def forget(self) -> None:
        """Begin anew: what was decided may not have been committed."""
        self._queue = WorkQueue(TenantQuotas(default_quota(self._settings), {}))
        self._horizon: int | None = None
        self._lanes: Lanes = {}
        self._model_lanes = ModelLanes(self._models, {}, PoolRates(self._models, {}))
        self._whole_read_due_s = 0.0
        self._recount_due_s = 0.0
        self._charges: dict[int, _Charge] = {}

    def turns(self) -> Turns:
        """How things stood after the last look."""
        standings = {lane: self._queue.share(lane).standing() for lane in self._lanes}
        return Turns(self._queue.kept_back(), standings)

    def grant(self, connection: Connection, workers: Sequence[LiveWorker]) -> Waves:
        """Grant chunks to the free slots of live workers, inside one transaction; to be published once it is committed.

        Where it is not committed, ``forget``.
        """
        dispatching = Dispatching(connection)
        busy = dispatching.busy()
        rates = PoolRates(self._models, Workers(connection).rates())
        self._follow_rows(connection, lanes_of(workers), rates)
        self._correct(dispatching, {chunk.id for chunk in busy})
        self._queue.set_busy(Counter(chunk.tenant_id for chunk in busy))
        for job_id in dispatching.ready_among(self._queue.idle_jobs) if self._queue.idle_jobs else ():
            self._queue.has_ready(job_id)
        waves: Waves = defaultdict(list)
        filling = _Filling(dispatching, self._queue, self._charges, rates, waves)
        slots = slots_by_lane(workers, busy)
        for only_warm in (True, False):
            for lane, free in slots.items():
                filling.fill(self._lanes[lane], free, only_warm=only_warm)
        return waves

    def _follow_rows(self, connection: Connection, lanes: Lanes, rates: PoolRates) -> None:
        queued = QueuedJobs(connection)
        self._recount(queued)
        horizon = queued.horizon()
        if self._horizon is None or lanes != self._lanes or time.monotonic() >= self._whole_read_due_s:
            self._lanes = lanes
            self._read_all(connection, queued, rates)
        else:
            self._read_changes(connection, queued, since=self._horizon)
        self._horizon = horizon

    def _recount(self, queued: QueuedJobs) -> None:
        if time.monotonic() >= self._recount_due_s:
            self._recount_due_s = time.monotonic() + RECOUNT_S
            for job_id in queued.recount():
                log.warning("job_recounted", job_id=job_id)

    def _read_all(self, connection: Connection, queued: QueuedJobs, rates: PoolRates) -> None:
        self._model_lanes = ModelLanes(self._models, self._lanes, rates)
        self._rehome(queued, rates)
        self._queue.change_quotas(tenant_quotas(connection, self._settings))
        jobs = queued.all()
        for job_id in set(self._queue.job_ids) - {job.id for job in jobs}:
            self._queue.remove(job_id)
        for job in jobs:
            self._put(job)
        self._whole_read_due_s = time.monotonic() + WHOLE_READ_S

    def _rehome(self, queued: QueuedJobs, rates: PoolRates) -> None:
        """Count the jobs whose pool has no worker for them among those of a pool that has: there they will run."""
        for model in self._models.values():
            able = [lane.pool for lane in self._lanes.values() if lane.can_run(model.alias, model.pools)]
            if able:
                home = max(able, key=lambda pool: rates.of(model.alias, model.stable_version, pool))
                queued.rehome(model.alias, able_pools=able, home=home)

    def _read_changes(self, connection: Connection, queued: QueuedJobs, *, since: int) -> None:
        if queued.quotas_changed_since(since):
            self._queue.change_quotas(tenant_quotas(connection, self._settings))
        changes = queued.changed_since(since)
        for job_id in changes.may_not:
            self._queue.remove(job_id)
        for job in changes.may_run:
            self._put(job)

    def _put(self, job: QueuedJob) -> None:
        """Take a job in where a worker lives that may run it: a job that cannot run must not hold up the line."""
        lanes = self._model_lanes.of(job.model, job.model_version)
        if not lanes:
            self._queue.remove(job.id)
        else:
            self._queue.put(replace(job, pools=lanes))

    def _correct(self, dispatching: Dispatching, busy: Collection[int]) -> None:
        """Replace estimates by what chunks that left their workers really cost."""
        left = self._charges.keys() - busy
        for end in dispatching.ends_of(left) if left else ():
            charge = self._charges.pop(end.id)
            used_s = charge.used_s(end)
            if used_s is not None:
                share = self._queue.share(charge.lane)
                share.correct(charge.priority, charge.tenant_id, charged_s=charge.cost_s, used_s=used_s)


@dataclass(frozen=True, slots=True)
class _Filling:
    """The grants of one look, as they are decided."""

    dispatching: Dispatching
    queue: WorkQueue
    charges: dict[int, _Charge]
    rates: PoolRates
    waves: Waves

    def fill(self, lane: Lane, free: list[LiveWorker], *, only_warm: bool) -> None:
        """Give the free slots of a lane to those whose turn it is.

        Args:
            free: slots in the order in which they are to be filled; what is filled is taken out.
            only_warm: stop at the first job whose model no free worker holds, so that another pool may be warm.
        """
        n_vain = 0
        while free and n_vain < MOST_VAIN_QUESTIONS and (job := self.queue.next(lane.name)) is not None:
            worker = next((worker for worker in free if job.model in worker.warm_models), None)
            if worker is None and only_warm:
                return
            worker = worker or free[0]
            granted = self._grant(job, worker.queue)
            if granted is None:
                n_vain += 1
                self._pass_over(job.id, ask_all=n_vain % VAIN_QUESTIONS == 0)
                continue
            free.remove(worker)
            self.waves[job.id].append(granted.grant)
            self._book(job, lane, granted)

    def _grant(self, job: QueuedJob, queue: str) -> Granted | None:
        may_run = self.queue.is_admitted(job.id) or self.dispatching.admit(job.id)
        return self.dispatching.grant_next(job.id, queue) if may_run else None

    def _pass_over(self, job_id: str, *, ask_all: bool) -> None:
        """A job had nothing ready; where that was so of many, find all who have not with one question."""
        self.queue.has_nothing_ready(job_id)
        if ask_all:
            asked = self.queue.runnable_jobs
            for other_id in set(asked) - set(self.dispatching.ready_among(asked)):
                self.queue.has_nothing_ready(other_id)

    def _book(self, job: QueuedJob, lane: Lane, granted: Granted) -> None:
        tokens_per_s = self.rates.of(job.model, job.model_version, lane.pool)
        cost_s = granted.estimated_tokens / tokens_per_s if tokens_per_s else granted.planned_s
        self.queue.started(job.id, pool=lane.name, cost_s=cost_s)
        charge = _Charge(lane.name, job.priority, job.tenant_id, cost_s, granted.attempt)
        self.charges[granted.grant.chunk_id] = charge


def slots_by_lane(workers: Sequence[LiveWorker], busy: Sequence[BusyChunk]) -> dict[str, list[LiveWorker]]:
    """The free slots of each lane, as workers in the order in which they are to be filled."""
    n_busy = Counter(chunk.queue for chunk in busy)
    by_queue = {worker.queue: worker for worker in workers}
    slots: dict[str, list[LiveWorker]] = defaultdict(list)
    for queue in free_slots({queue: n_busy[queue] for queue in by_queue}):
        worker = by_queue[queue]
        slots[lane_of(worker).name].append(worker)
    return slots


def free_slots(n_busy_by_queue: dict[str, int]) -> list[str]:
    """Queues in the order in which free slots are to be filled: the emptiest first."""
    slots = []
    for depth in range(CHUNKS_PER_WORKER):
        slots += [queue for queue, n_busy in sorted(n_busy_by_queue.items()) if n_busy <= depth]
    return slots
