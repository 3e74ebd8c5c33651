"""Who runs next, and what keeps the others back: the picture from which the dispatcher decides. Pure.

It holds one line for each job that may run and none for its chunks: whether a job has a chunk ready is asked when its
turn comes. A decision therefore costs the logarithm of the number of tenants and jobs, however many chunks wait.

Read it so: ``put`` every job whose row changed, ``remove`` those that may not run any more, ``set_busy`` what is with
workers; then for each free slot of a pool ``next``, and ``started`` or ``has_nothing_ready``. To explain why a job
waits: ``cap_on`` names the quota that keeps it back, and None says that it is merely behind other work. For that alone
the jobs of the one tenant are enough.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from app.domain.fairness import FairShare
from app.domain.jobs import Priority
from app.domain.tenant_places import Cap, Place, QueuedJob, TenantPlaces, place_of
from app.domain.tenants import TenantQuotas

_Lane = tuple[str, Priority]
"""A pool and a class."""


@dataclass(slots=True)
class _Tenant:
    places: TenantPlaces
    n_jobs: int = 0
    lanes: dict[_Lane, list[Place]] = field(default_factory=lambda: defaultdict(list))
    """Heaps of those who may run and have something ready; whoever may not any more is dropped when they come up."""


class WorkQueue:
    """Every job that may run, by pool, class and tenant."""

    def __init__(self, quotas: TenantQuotas) -> None:
        self._quotas = quotas
        self._places: dict[str, Place] = {}
        self._tenants: dict[str, _Tenant] = {}
        self._shares: dict[str, FairShare] = {}
        self._idle: set[str] = set()
        self._changed: set[str] = set()
        self._busy: dict[str, int] = {}

    def __len__(self) -> int:
        """Jobs that are known."""
        return len(self._places)

    @property
    def job_ids(self) -> Iterable[str]:
        """The jobs that are known."""
        return self._places.keys()

    @property
    def idle_jobs(self) -> frozenset[str]:
        """Jobs that had nothing ready when their turn came; ask again with every look."""
        return frozenset(self._idle)

    @property
    def runnable_jobs(self) -> list[str]:
        """Jobs that no cap on jobs or tokens keeps back and that may have something ready."""
        return [job_id for job_id, place in self._places.items() if place.may_run and not place.is_idle]

    # -- what is the case

    def change_quotas(self, quotas: TenantQuotas) -> None:
        """Other quotas hold from now on; at once for all but those who are admitted already."""
        self._quotas = quotas
        for tenant_id, tenant in self._tenants.items():
            quota = quotas.of(tenant_id)
            if quota != tenant.places.quota:
                tenant.places.change_quota(quota)
                self._changed.add(tenant_id)

    def put(self, job: QueuedJob) -> None:
        """A job may run, and this is what its row says now."""
        known = self._places.get(job.id)
        if known is not None and known.job == job and known.is_admitted == job.is_admitted:
            return
        if known is not None and _is_same_but_for_tokens(known, job):
            self._tenants[job.tenant_id].places.resize(known, job)
            self._changed.add(job.tenant_id)
            return
        self.remove(job.id)
        place = self._places[job.id] = place_of(job)
        tenant = self._tenants.get(job.tenant_id)
        if tenant is None:
            places = TenantPlaces(self._quotas.of(job.tenant_id), self._busy.get(job.tenant_id, 0))
            tenant = self._tenants[job.tenant_id] = _Tenant(places)
        tenant.n_jobs += 1
        tenant.places.add(place)
        if place.may_run:
            _list(tenant, place)
        self._changed.add(job.tenant_id)

    def remove(self, job_id: str) -> None:
        """A job ended or may not run for now; without effect where it is not known."""
        place = self._places.pop(job_id, None)
        if place is None:
            return
        tenant = self._tenants[place.job.tenant_id]
        tenant.n_jobs -= 1
        tenant.places.remove(place)
        self._idle.discard(job_id)
        self._changed.add(place.job.tenant_id)

    def set_busy(self, n_chunks_by_tenant: Mapping[str, int]) -> None:
        """How many chunks of each tenant are with workers; those not named have none."""
        for tenant_id in self._busy.keys() | n_chunks_by_tenant.keys():
            tenant = self._tenants.get(tenant_id)
            if tenant is not None and tenant.places.n_busy != n_chunks_by_tenant.get(tenant_id, 0):
                tenant.places.n_busy = n_chunks_by_tenant.get(tenant_id, 0)
                self._changed.add(tenant_id)
        self._busy = dict(n_chunks_by_tenant)

    def has_ready(self, job_id: str) -> None:
        """A job of ``idle_jobs`` has a chunk ready again."""
        if job_id in self._idle:
            self._idle.discard(job_id)
            place = self._places[job_id]
            tenant = self._tenants[place.job.tenant_id]
            tenant.places.take_up(place)
            if place.may_run:
                _list(tenant, place)
            self._changed.add(place.job.tenant_id)

    # -- who is next

    def next(self, pool: str) -> QueuedJob | None:
        """The job whose turn it is in a pool; None where nothing may run. Asking does not change whose turn it is."""
        self._settle()
        turn = self.share(pool).first()
        if turn is None:
            return None
        priority, tenant_id = turn
        return self._tenants[tenant_id].lanes[pool, priority][0].job

    def started(self, job_id: str, *, pool: str, cost_s: float) -> None:
        """A chunk of a job was granted; its estimated device seconds are booked."""
        place = self._places[job_id]
        job = place.job
        places = self._tenants[job.tenant_id].places
        if not place.is_admitted:
            places.admit(place)
        places.n_busy += 1
        self._busy[job.tenant_id] = places.n_busy
        self.share(pool).charge(job.priority, job.tenant_id, cost_s)
        self._changed.add(job.tenant_id)

    def has_nothing_ready(self, job_id: str) -> None:
        """The job whose turn it was has no chunk that may run now: it is passed over until ``has_ready``."""
        place = self._places[job_id]
        self._tenants[place.job.tenant_id].places.set_aside(place)
        self._idle.add(job_id)
        self._changed.add(place.job.tenant_id)

    def is_admitted(self, job_id: str) -> bool:
        """Whether a job holds a place of its tenant, also where it took it just now."""
        return self._places[job_id].is_admitted

    def share(self, pool: str) -> FairShare:
        """What was given in a pool so far."""
        if pool not in self._shares:
            self._shares[pool] = FairShare(lambda tenant_id: self._quotas.of(tenant_id).weight)
        return self._shares[pool]

    # -- what keeps the others back

    def cap_on(self, job_id: str) -> Cap | None:
        """The quota that keeps a job back; None where it is merely behind other work, or not known."""
        self._settle()
        place = self._places.get(job_id)
        return None if place is None else self._tenants[place.job.tenant_id].places.cap_on(place)

    def kept_back(self) -> dict[str, Cap]:
        """Every job that a cap keeps back, and by which. All the others that wait are merely behind other work."""
        caps = ((job_id, self.cap_on(job_id)) for job_id in self._places)
        return {job_id: cap for job_id, cap in caps if cap is not None}

    # -- inside

    def _settle(self) -> None:
        """Make the lines and the shares follow what changed."""
        while self._changed:
            tenant_id = self._changed.pop()
            tenant = self._tenants[tenant_id]
            for place in tenant.places.settle():
                _list(tenant, place)
            for lane in tenant.lanes:
                self._take_part(tenant_id, tenant, lane)
            if not tenant.n_jobs:
                del self._tenants[tenant_id]

    def _take_part(self, tenant_id: str, tenant: _Tenant, lane: _Lane) -> None:
        pool, priority = lane
        _drop_idle(pool, tenant.lanes[lane])
        if tenant.lanes[lane] and not tenant.places.is_at_its_chunks:
            self.share(pool).join(priority, tenant_id)
        else:
            self.share(pool).leave(priority, tenant_id)


def _list(tenant: _Tenant, place: Place) -> None:
    for pool in set(place.job.pools) - place.lanes:
        place.lanes.add(pool)
        heapq.heappush(tenant.lanes[pool, place.job.priority], place)


def _drop_idle(pool: str, lane: list[Place]) -> None:
    """Take those off the top of a lane who may not run or have nothing ready."""
    while lane and (lane[0].is_idle or not lane[0].may_run):
        heapq.heappop(lane).lanes.discard(pool)


def _is_same_but_for_tokens(known: Place, job: QueuedJob) -> bool:
    return (
        known.key == place_of(job).key
        and known.job.pools == job.pools
        and known.job.tenant_id == job.tenant_id
        and known.is_admitted == job.is_admitted
    )
