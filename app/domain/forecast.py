"""When the jobs of some workers will start and end, if nothing else comes: a simulation. Pure.

Turns are given as ``app/domain/fairness.py`` gives them: classes and tenants by what they had over their weight, jobs
of a tenant by their line. To stay cheap with a million chunks, a job that comes up again and again is given several
chunks at a time: how many grows with what it has had, so that the error stays a small share of the time ahead.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from app.domain.fairness import CLASS_WEIGHTS, Standing
from app.domain.jobs import Eta, Priority

MOST_TURNS = 30_000
GROWTHS = (0.05, 0.2, 1.0, 4.0)
"""Share of what a job has had that its next turn may give it; the first with which the turns are few enough."""
MEASURED, ASSUMED, KEPT_BACK = 1.5, 4.0, 1.5
"""By which factor the time ahead may be wrong: where rates were measured, where they are only assumed, and once more
for a job that waits for others of its tenant to end."""
CLOSING_S = 0.3
"""From the last chunk of a job to its end."""
MIN_CHUNK_S = 0.001

_RANK = {priority: rank for rank, priority in enumerate(Priority)}


@dataclass(frozen=True, slots=True)
class Work:
    """Chunks of one job that are in the same case."""

    n_chunks: int = 0
    seconds: float = 0.0
    """Device seconds that they still need, all together."""

    @property
    def chunk_s(self) -> float:
        """Device seconds of one of them."""
        return max(self.seconds / self.n_chunks, MIN_CHUNK_S) if self.n_chunks else 0.0

    def part(self, share: float) -> Work:
        """What some of the workers will do of it that have this share of all who can."""
        return Work(max(1, round(self.n_chunks * share)) if self.n_chunks else 0, self.seconds * share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What is left to do of one job."""

    job_id: str
    tenant_id: str
    priority: Priority
    deadline_at: datetime
    created_at: datetime
    ready: Work = field(default_factory=Work)
    """Not with a worker, and may be granted now."""
    later: Work = field(default_factory=Work)
    """To be tried again, once a pause is over."""
    later_in_s: float = 0.0
    busy_until_s: float = 0.0
    """When its last chunk that is with a worker ends; zero where none is."""
    is_running: bool = False
    is_kept_back: bool = False
    """A cap on its tenant's jobs or tokens keeps it back until another of them ends."""
    is_measured: bool = True
    """Whether its device seconds rest on a measured rate."""

    @property
    def line(self) -> tuple[int, datetime, datetime, str]:
        """Its turn among the jobs of its tenant."""
        return (_RANK[self.priority], self.deadline_at, self.created_at, self.job_id)

    @property
    def seconds(self) -> float:
        """Device seconds that what is not with a worker still needs."""
        return self.ready.seconds + self.later.seconds

    def part(self, share: float) -> Backlog:
        """As some of the workers meet it that have this share of all who can take it."""
        return self if share == 1 else replace(self, ready=self.ready.part(share), later=self.later.part(share))


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of one job."""

    starts_in_s: float
    """When its next chunk begins; zero while one runs."""
    eta: Eta
    position: int | None
    """Place in the order in which the waiting jobs will start, from 1; None for those that run."""


@dataclass(slots=True)
class _Run:
    """One job in the simulation."""

    job: Backlog
    rank: int
    """Its turn among all jobs as if they were one tenant's."""
    chunk_s: float
    n_left: int
    n_had: int = 0
    starts_s: float = math.inf
    ends_s: float = 0.0
    assumed: float = 0.0
    """Share of the work given up to its end that rests on an assumed rate."""

    def take(self, growth: float) -> int:
        """The chunks of its next turn."""
        n_chunks = min(self.n_left, max(1, int(self.n_had * growth)))
        self.n_left -= n_chunks
        self.n_had += n_chunks
        return n_chunks


def forecast(
    backlog: Sequence[Backlog],
    *,
    workers_free_in_s: Sequence[float],
    standing: Standing | None = None,
    weights: Mapping[str, float] | None = None,
    max_chunks: Mapping[str, int] | None = None,
) -> dict[str, Forecast]:
    """What is expected of each job, if nothing else comes and no worker goes.

    Args:
        workers_free_in_s: for each live worker, when it will have done what it has; at least one.
        standing: what classes and tenants have had, as of now; all alike where it is not known.
        weights: of tenants; 1 where not named.
        max_chunks: the most chunks of a tenant that may be with workers at once, where that is fewer than there are
            workers.
    """
    simulation = _Simulation(backlog, list(workers_free_in_s), _Turns(weights or {}, standing or Standing()))
    runs = simulation.run()
    _slow_down(runs, max_chunks or {})
    waiting = sorted((run for run in runs if not run.job.is_running), key=lambda run: (run.starts_s, run.rank))
    positions = {run.job.job_id: place for place, run in enumerate(waiting, start=1)}
    return {run.job.job_id: _forecast_of(run, positions.get(run.job.job_id)) for run in runs}


class _Simulation:
    """The pool, from now until everything is done."""

    def __init__(self, backlog: Sequence[Backlog], free_in_s: list[float], turns: _Turns) -> None:
        self._backlog = backlog
        self._workers = free_in_s
        self._turns = turns
        self._growth = _growth(backlog)
        self._later: list[tuple[float, int, _Run]] = []
        self._kept_back: dict[str, list[tuple[int, _Run]]] = defaultdict(list)
        self._given_s = 0.0
        self._assumed_s = 0.0

    def run(self) -> list[_Run]:
        heapq.heapify(self._workers)
        in_line = sorted(self._backlog, key=lambda job: job.line)
        runs = [run for place, job in enumerate(in_line) for run in self._enter(job, 2 * place)]
        while self._turns.are_left or self._later or self._let_somebody_in():
            now_s = self._workers[0]
            if not self._turns.are_left:
                now_s = max(now_s, self._later[0][0])
            while self._later and self._later[0][0] <= now_s:
                self._turns.put(heapq.heappop(self._later)[2])
            if self._turns.are_left:
                self._give_turn(now_s)
        return _merged(runs)

    def _enter(self, job: Backlog, rank: int) -> list[_Run]:
        """A job comes as one run, or as two where a part of it has to pause."""
        ready = _Run(job, rank, job.ready.chunk_s, job.ready.n_chunks, ends_s=job.busy_until_s)
        if job.is_running or job.busy_until_s or not ready.n_left:
            ready.starts_s = 0.0
        if job.is_kept_back and ready.n_left:
            heapq.heappush(self._kept_back[job.tenant_id], (rank, ready))
        elif ready.n_left:
            self._turns.put(ready)
        if not job.later.n_chunks:
            return [ready]
        if not (ready.n_left or job.is_running or job.busy_until_s):
            ready.starts_s = math.inf
        later = _Run(job, rank + 1, job.later.chunk_s, job.later.n_chunks)
        self._push_later(job.later_in_s, later)
        return [ready, later]

    def _let_somebody_in(self) -> bool:
        """Nothing else is left: whoever is kept back comes in now, one of each tenant."""
        waiting = [kept_back for kept_back in self._kept_back.values() if kept_back]
        for kept_back in waiting:
            self._turns.put(heapq.heappop(kept_back)[1])
        return bool(waiting)

    def _push_later(self, at_s: float, run: _Run) -> None:
        heapq.heappush(self._later, (at_s, run.rank, run))

    def _give_turn(self, now_s: float) -> None:
        run = self._turns.next()
        job = run.job
        n_chunks = run.take(self._growth)
        seconds = n_chunks * run.chunk_s
        run.starts_s = min(run.starts_s, now_s)
        run.ends_s = max(run.ends_s, self._work(now_s, n_chunks, run.chunk_s))
        self._turns.charge(run, seconds)
        self._given_s += seconds
        self._assumed_s += 0.0 if job.is_measured else seconds
        run.assumed = self._assumed_s / self._given_s
        if run.n_left == 0 and self._kept_back[job.tenant_id]:
            self._push_later(run.ends_s, heapq.heappop(self._kept_back[job.tenant_id])[1])

    def _work(self, now_s: float, n_chunks: int, chunk_s: float) -> float:
        """Give chunks to the workers that are free first; returns when the last of them is done."""
        n_each, n_more = divmod(n_chunks, len(self._workers))
        done_s = 0.0
        for place in range(min(n_chunks, len(self._workers))):
            free_s = max(self._workers[0], now_s)
            until_s = free_s + (n_each + (place < n_more)) * chunk_s
            heapq.heapreplace(self._workers, until_s)
            done_s = max(done_s, until_s)
        return done_s


class _Turns:
    """Whose turn it is: classes and tenants by what they had over their weight, jobs by their line."""

    def __init__(self, weights: Mapping[str, float], standing: Standing) -> None:
        self._weights = weights
        self._standing = standing
        self._classes: dict[Priority, list[tuple[float, str]]] = {}
        self._class_had: dict[Priority, float] = {}
        self._jobs: dict[tuple[Priority, str], list[tuple[int, _Run]]] = defaultdict(list)
        self._now: dict[Priority, float] = defaultdict(float)
        self._class_now = 0.0

    @property
    def are_left(self) -> bool:
        """Whether anybody may have a turn."""
        return bool(self._class_had)

    def put(self, run: _Run) -> None:
        """A job may have turns from now on."""
        priority, tenant_id = run.job.priority, run.job.tenant_id
        jobs = self._jobs[priority, tenant_id]
        heapq.heappush(jobs, (run.rank, run))
        if len(jobs) > 1:
            return
        had = max(self._now[priority], self._standing.tenants.get((priority, tenant_id), 0.0))
        heapq.heappush(self._classes.setdefault(priority, []), (had, tenant_id))
        self._class_had.setdefault(priority, max(self._class_now, self._standing.classes.get(priority, 0.0)))

    def next(self) -> _Run:
        """The job whose turn it is; ``charge`` it before asking again."""
        priority = min(self._class_had, key=lambda each: (self._class_had[each], each))
        had, tenant_id = self._classes[priority][0]
        self._class_now, self._now[priority] = self._class_had[priority], had
        return self._jobs[priority, tenant_id][0][1]

    def charge(self, run: _Run, seconds: float) -> None:
        """Book what the job of this turn was given, and let those leave who have nothing left."""
        priority, tenant_id = run.job.priority, run.job.tenant_id
        tenants, jobs = self._classes[priority], self._jobs[priority, tenant_id]
        if run.n_left == 0:
            heapq.heappop(jobs)
        if jobs:
            had = tenants[0][0] + seconds / self._weights.get(tenant_id, 1.0)
            heapq.heapreplace(tenants, (had, tenant_id))
        else:
            heapq.heappop(tenants)
        if tenants:
            self._class_had[priority] += seconds / CLASS_WEIGHTS[priority]
        else:
            del self._class_had[priority]


def _growth(backlog: Sequence[Backlog]) -> float:
    """How coarse turns must be for there to be no more than ``MOST_TURNS``."""
    sizes = [job.ready.n_chunks + job.later.n_chunks for job in backlog]
    for growth in GROWTHS:
        if sum(math.log1p(growth * size) / math.log1p(growth) + 1 for size in sizes) <= MOST_TURNS:
            return growth
    return GROWTHS[-1]


def _merged(runs: Sequence[_Run]) -> list[_Run]:
    """One run for each job: it begins with the first of its parts and ends with the last."""
    by_job: dict[str, _Run] = {}
    for run in runs:
        known = by_job.setdefault(run.job.job_id, run)
        if known is not run:
            known.starts_s = min(known.starts_s, run.starts_s)
            known.ends_s = max(known.ends_s, run.ends_s)
            known.assumed = max(known.assumed, run.assumed)
    return list(by_job.values())


def _slow_down(runs: Sequence[_Run], max_chunks: Mapping[str, int]) -> None:
    """Let no tenant be faster than as many chunks at once as it may have."""
    seconds: dict[str, float] = defaultdict(float)
    for run in sorted(runs, key=lambda run: run.rank):
        job = run.job
        at_once = max_chunks.get(job.tenant_id)
        if at_once is not None:
            run.starts_s = max(run.starts_s, seconds[job.tenant_id] / at_once)
            seconds[job.tenant_id] += job.seconds
            run.ends_s = max(run.ends_s, seconds[job.tenant_id] / at_once)


def _forecast_of(run: _Run, position: int | None) -> Forecast:
    wrong_by = MEASURED + (ASSUMED - MEASURED) * run.assumed
    wrong_by *= KEPT_BACK if run.job.is_kept_back else 1.0
    ends_s = run.ends_s + CLOSING_S
    slack_s = max(run.job.ready.chunk_s, run.job.later.chunk_s, CLOSING_S)
    eta = Eta(seconds=ends_s, low=max(0.0, ends_s / wrong_by - slack_s), high=ends_s * wrong_by + slack_s)
    return Forecast(starts_in_s=run.starts_s, eta=eta, position=position)
