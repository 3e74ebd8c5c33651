"""When jobs will start and end: against a simulation of workers that the real fairness code feeds."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.forecast import CLOSING_S, Backlog, Forecast, Work, forecast
from app.domain.jobs import Priority
from app.domain.tenant_places import Cap, QueuedJob
from app.domain.tenants import TenantQuota, TenantQuotas
from app.domain.work_queue import WorkQueue

NOW = datetime(2026, 11, 21, tzinfo=UTC)
A_S = timedelta(seconds=1)
SLOTS = 2
POOL = "gpu"


def backlog(job: str, n_chunks: int = 1, chunk_s: float = 1.0, *, tenant: str = "t", **changes: object) -> Backlog:
    made = Backlog(
        job_id=job,
        tenant_id=tenant,
        priority=Priority.STANDARD,
        deadline_at=NOW + timedelta(days=1),
        created_at=NOW,
        ready=Work(n_chunks, n_chunks * chunk_s),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


QUOTA = TenantQuota(
    weight=1.0,
    max_running_jobs=1_000,
    max_chunks=1_000,
    max_enqueued_tokens=10**12,
    requests_per_minute=1,
    max_storage_bytes=1,
    retention_s=1,
    budget=None,
)


@dataclass
class Pool:
    """Workers that run what the real queue grants them, chunk by chunk, each about as long as its job's chunks take."""

    jobs: Sequence[Backlog]
    n_workers: int
    noise: Random
    quotas: TenantQuotas = field(default_factory=lambda: TenantQuotas(QUOTA, {}))
    now_s: float = 0.0
    started_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_id = {job.job_id: job for job in self.jobs}
        self.left = Counter({job.job_id: job.ready.n_chunks for job in self.jobs})
        self.queues: list[list[str]] = [[] for _ in range(self.n_workers)]
        self.done: list[tuple[float, int]] = []
        self.queue = WorkQueue(self.quotas)
        for job in self.jobs:
            self.queue.put(
                QueuedJob(
                    id=job.job_id,
                    tenant_id=job.tenant_id,
                    pools=(POOL,),
                    model="m",
                    model_version="v",
                    priority=job.priority,
                    deadline_at=job.deadline_at,
                    created_at=job.created_at,
                    is_admitted=False,
                    remaining_tokens=job.ready.n_chunks,
                )
            )
        self._grant()

    def run(self, until_s: float = float("inf")) -> None:
        while self.done and self.done[0][0] <= until_s:
            self.now_s, worker = heapq.heappop(self.done)
            job_id = self.queues[worker].pop(0)
            self.ended_s[job_id] = self.now_s
            if not self.left[job_id] and not any(job_id in queue for queue in self.queues):
                self.queue.remove(job_id)
            self._begin(worker)
            self._grant()

    def backlog(self) -> tuple[list[Backlog], list[float]]:
        """What is left to do, and when the workers are free, as far as anybody can know."""
        until_s: dict[str, float] = {}
        free_in_s = []
        running = {queue[0] for queue in self.queues if queue}
        for worker, queue in enumerate(self.queues):
            at_s = 0.0
            for place, job_id in enumerate(queue):
                chunk_s = self.by_id[job_id].ready.chunk_s
                elapsed_s = self.now_s - self.began_s[worker] if place == 0 else 0.0
                at_s += max(chunk_s - elapsed_s, chunk_s / 10)
                until_s[job_id] = max(until_s.get(job_id, 0.0), at_s)
            free_in_s.append(at_s)
        caps = self.queue.kept_back()
        alive = [job for job in self.jobs if self.left[job.job_id] or job.job_id in until_s]
        left = [
            replace(
                job,
                ready=Work(self.left[job.job_id], self.left[job.job_id] * job.ready.chunk_s),
                busy_until_s=until_s.get(job.job_id, 0.0),
                is_running=job.job_id in running,
                is_kept_back=caps.get(job.job_id, Cap.MAX_CHUNKS) is not Cap.MAX_CHUNKS,
            )
            for job in alive
        ]
        return left, free_in_s

    def _grant(self) -> None:
        self.queue.set_busy(Counter(self.by_id[job_id].tenant_id for queue in self.queues for job_id in queue))
        free = [worker for depth in range(SLOTS) for worker, queue in enumerate(self.queues) if len(queue) <= depth]
        while free and (job := self.queue.next(POOL)) is not None:
            if not self.left[job.id]:
                self.queue.has_nothing_ready(job.id)
                continue
            self.queue.started(job.id, pool=POOL, cost_s=self.by_id[job.id].ready.chunk_s)
            self.left[job.id] -= 1
            worker = free.pop(0)
            self.queues[worker].append(job.id)
            if len(self.queues[worker]) == 1:
                self._begin(worker)

    def _begin(self, worker: int) -> None:
        self.began_s = getattr(self, "began_s", {})
        self.began_s[worker] = self.now_s
        if self.queues[worker]:
            job_id = self.queues[worker][0]
            self.started_s.setdefault(job_id, self.now_s)
            lasts_s = self.by_id[job_id].ready.chunk_s * self.noise.uniform(0.8, 1.2)
            heapq.heappush(self.done, (self.now_s + lasts_s, worker))


def pool_of(jobs: Sequence[Backlog], *, n_workers: int, seed: int, quota: TenantQuota = QUOTA) -> Pool:
    return Pool(jobs, n_workers, Random(seed), TenantQuotas(quota, {}))  # noqa: S311 - a seeded test


def what_happens(jobs: Sequence[Backlog], *, n_workers: int, seed: int = 1) -> Pool:
    pool = pool_of(jobs, n_workers=n_workers, seed=seed)
    pool.run()
    return pool


def wrong_by_two(foretold: dict[str, Forecast], happened: dict[str, float], since_s: float = 0.0) -> dict[str, object]:
    """Jobs whose end was foretold too early or too late by a factor of two, each with what was foretold."""
    ends = {job_id: happened[job_id] - since_s + CLOSING_S for job_id in foretold}
    return {
        job_id: (each.eta, round(ends[job_id], 1))
        for job_id, each in foretold.items()
        if not 0.5 < each.eta.seconds / ends[job_id] < 2
    }


def outside_of_the_interval(
    foretold: dict[str, Forecast], happened: dict[str, float], since_s: float = 0.0
) -> list[str]:
    return [id_ for id_, each in foretold.items() if not each.eta.low <= happened[id_] - since_s <= each.eta.high]


def a_pool(seed: int, *, n_tenants: int, n_jobs: int, most_chunks: int) -> list[Backlog]:
    random = Random(seed)  # noqa: S311 - a seeded test
    chunk_s = random.choice((0.5, 3.0, 10.0))
    return [
        backlog(
            f"job-{number}",
            max(1, int(most_chunks ** random.random())),
            chunk_s * random.uniform(0.5, 1.0),
            tenant=f"tenant-{random.randrange(n_tenants)}",
            priority=random.choice(list(Priority)),
            deadline_at=NOW + timedelta(hours=random.choice((1, 24))),
            created_at=NOW - timedelta(minutes=random.randrange(60)),
        )
        for number in range(n_jobs)
    ]


@pytest.mark.parametrize("n_workers", [1, 2, 8])
@pytest.mark.parametrize(("n_tenants", "n_jobs", "most_chunks"), [(1, 40, 30), (4, 60, 200), (50, 80, 40)])
def test_the_end_of_every_job_is_foretold_within_a_factor_of_two_and_inside_the_interval(
    n_tenants: int, n_jobs: int, most_chunks: int, n_workers: int
) -> None:
    for seed in range(5):
        jobs = a_pool(seed, n_tenants=n_tenants, n_jobs=n_jobs, most_chunks=most_chunks)
        foretold = forecast(jobs, workers_free_in_s=[0.0] * n_workers)
        happened = what_happens(jobs, n_workers=n_workers, seed=seed).ended_s
        assert wrong_by_two(foretold, happened) == {}
        assert outside_of_the_interval(foretold, happened) == []


def in_the_middle(seed: int, quota: TenantQuota, *, n_workers: int, n_tenants: int) -> tuple[int, int, int]:
    """Look ahead when a third of the work is done; gives the jobs left, and those outside of a factor and interval."""
    jobs = a_pool(seed, n_tenants=n_tenants, n_jobs=80, most_chunks=60)
    pool = pool_of(jobs, n_workers=n_workers, seed=seed, quota=quota)
    pool.run(until_s=sum(job.ready.seconds for job in jobs) / n_workers / 3)
    left, free_in_s = pool.backlog()
    foretold = forecast(left, workers_free_in_s=free_in_s, standing=pool.queue.share(POOL).standing())
    now_s = pool.now_s
    pool.run()
    wrong = wrong_by_two(foretold, pool.ended_s, now_s)
    return len(foretold), len(wrong), len(outside_of_the_interval(foretold, pool.ended_s, now_s))


@pytest.mark.parametrize(("n_workers", "n_tenants"), [(1, 3), (2, 12), (6, 40)])
def test_it_holds_as_well_in_the_middle_of_things(n_workers: int, n_tenants: int) -> None:
    found = [in_the_middle(seed, QUOTA, n_workers=n_workers, n_tenants=n_tenants) for seed in range(6)]
    assert [(n_wrong, n_outside) for _, n_wrong, n_outside in found] == [(0, 0)] * 6


@pytest.mark.parametrize(
    "quota", [replace(QUOTA, max_running_jobs=3), replace(QUOTA, max_enqueued_tokens=60)], ids=["jobs", "tokens"]
)
def test_where_quotas_keep_most_jobs_back_it_holds_for_all_but_a_few(quota: TenantQuota) -> None:
    found = [in_the_middle(seed, quota, n_workers=2, n_tenants=6) for seed in range(12)]
    n_jobs, n_wrong, n_outside = (sum(column) for column in zip(*found, strict=True))
    assert n_wrong / n_jobs < 0.03
    assert n_outside / n_jobs < 0.05


@pytest.mark.parametrize("n_workers", [1, 2])
def test_positions_count_the_jobs_in_the_order_in_which_they_start(n_workers: int) -> None:
    for seed in range(8):
        jobs = a_pool(seed, n_tenants=4, n_jobs=60, most_chunks=20)
        foretold = forecast(jobs, workers_free_in_s=[0.0] * n_workers)
        assert sorted(each.position or 0 for each in foretold.values()) == list(range(1, len(jobs) + 1))
        started_s = what_happens(jobs, n_workers=n_workers, seed=seed).started_s
        in_order = sorted(started_s, key=lambda job_id: started_s[job_id])
        off = [abs((foretold[job_id].position or 0) - place) for place, job_id in enumerate(in_order, start=1)]
        assert max(off) <= n_workers * SLOTS + 2, (seed, off)


def test_a_job_of_another_tenant_starts_after_one_chunk_and_not_after_the_whole_job_before_it() -> None:
    big, small = backlog("big", 1000, 10.0, tenant="a"), backlog("small", 1, 1.0, tenant="b")
    foretold = forecast([big, small], workers_free_in_s=[0.0])
    assert (foretold["small"].starts_in_s, foretold["small"].position) == (10.0, 2)
    assert foretold["big"].eta.seconds == pytest.approx(10_001 + CLOSING_S)


def test_work_waits_for_what_the_workers_have() -> None:
    foretold = forecast([backlog("next")], workers_free_in_s=[30.0, 12.0])
    assert foretold["next"].starts_in_s == 12.0
    assert foretold["next"].eta.seconds == pytest.approx(13 + CLOSING_S)


def test_a_job_that_runs_has_no_place_among_those_that_wait() -> None:
    running = backlog("running", 5, is_running=True, busy_until_s=3.0)
    done_soon = backlog("done soon", 0, is_running=True, busy_until_s=3.0)
    foretold = forecast([running, done_soon, backlog("waits")], workers_free_in_s=[3.0])
    assert {job_id: each.position for job_id, each in foretold.items()} == {
        "running": None,
        "done soon": None,
        "waits": 1,
    }
    assert foretold["running"].starts_in_s == 0
    assert foretold["done soon"].eta.seconds == pytest.approx(3 + CLOSING_S)


def test_what_pauses_comes_when_its_pause_is_over() -> None:
    paused = backlog("paused", 0, later=Work(1, 2.0), later_in_s=60.0)
    foretold = forecast([paused, backlog("now")], workers_free_in_s=[0.0])
    assert (foretold["now"].position, foretold["paused"].position) == (1, 2)
    assert foretold["paused"].starts_in_s == 60.0
    assert foretold["paused"].eta.seconds == pytest.approx(62 + CLOSING_S)


def test_a_job_that_a_cap_keeps_back_begins_when_another_of_its_tenant_ends() -> None:
    jobs = [backlog("first", 4, 10.0), backlog("kept back", is_kept_back=True, priority=Priority.BACKGROUND)]
    foretold = forecast(jobs, workers_free_in_s=[0.0, 0.0])
    assert foretold["kept back"].starts_in_s == 20.0


def test_a_cap_on_chunks_slows_a_tenant_down() -> None:
    foretold = forecast([backlog("job", 10, 1.0)], workers_free_in_s=[0.0] * 5, max_chunks={"t": 1})
    assert foretold["job"].eta.seconds == pytest.approx(10 + CLOSING_S)


def test_the_interval_is_wider_where_rates_are_only_assumed_for_oneself_or_for_those_before() -> None:
    def width(*, first: bool, second: bool) -> float:
        jobs = [
            backlog("first", 10, is_measured=first),
            backlog("second", 10, is_measured=second, created_at=NOW + A_S),
        ]
        eta = forecast(jobs, workers_free_in_s=[0.0])["second"].eta
        assert eta.low < eta.seconds < eta.high
        return eta.high / eta.seconds

    assert width(first=True, second=True) < width(first=False, second=True) < width(first=False, second=False)


def test_a_million_chunks_cost_few_turns() -> None:
    jobs = [backlog(f"job-{number}", 100, 10.0, tenant=f"tenant-{number}") for number in range(10_000)]
    foretold = forecast(jobs, workers_free_in_s=[0.0] * 10)
    longest_s = max(each.eta.seconds for each in foretold.values())
    assert longest_s == pytest.approx(1_000_000, rel=0.01)


works = st.builds(
    backlog,
    job=st.uuids().map(str),
    n_chunks=st.integers(0, 40),
    chunk_s=st.floats(0, 100),
    tenant=st.sampled_from("abcd"),
    priority=st.sampled_from(Priority),
    later=st.builds(Work, n_chunks=st.integers(0, 3), seconds=st.floats(0, 30)),
    later_in_s=st.floats(0, 300),
    is_kept_back=st.booleans(),
    is_running=st.booleans(),
    busy_until_s=st.floats(0, 30),
    is_measured=st.booleans(),
)


@given(
    st.lists(works, max_size=15),
    st.lists(st.floats(0, 60), min_size=1, max_size=5),
    st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3)),
)
@settings(deadline=None)
def test_every_job_gets_a_forecast_that_makes_sense(
    jobs: list[Backlog], free: list[float], max_chunks: dict[str, int]
) -> None:
    foretold = forecast(jobs, workers_free_in_s=free, weights={"a": 3.0}, max_chunks=max_chunks)
    assert foretold.keys() == {job.job_id for job in jobs}
    for each in foretold.values():
        assert 0 <= each.eta.low <= each.eta.seconds <= each.eta.high < float("inf")
    places = sorted(each.position for each in foretold.values() if each.position is not None)
    assert places == list(range(1, len(places) + 1))


@given(st.integers(1, 1_000), st.floats(0.1, 100), st.floats(0.01, 1))
def test_a_part_of_a_backlog_has_its_share_of_the_seconds(n_chunks: int, chunk_s: float, share: float) -> None:
    whole = backlog("a", n_chunks, chunk_s, later=Work(1, 5.0))
    part = whole.part(share)
    assert part.seconds == pytest.approx(whole.seconds * share)
    assert 1 <= part.ready.n_chunks <= n_chunks
    assert part.line == whole.line


def test_nothing_has_no_part() -> None:
    assert Work().part(0.5) == Work()


def test_work_that_goes_elsewhere_as_well_holds_up_the_others_less() -> None:
    first = backlog("a", 100, 1.0, tenant="a")
    second = backlog("b", 100, 1.0, tenant="b")
    alone = forecast([first, second.part(0.25)], workers_free_in_s=[0.0])
    assert alone["a"].eta.seconds == pytest.approx(125, abs=10)
    assert forecast([first, second], workers_free_in_s=[0.0])["a"].eta.seconds == pytest.approx(200, abs=10)
