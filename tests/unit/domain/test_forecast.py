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

from app.domain.fairness import Candidate, FairShare
from app.domain.forecast import CLOSING_S, Backlog, Work, forecast
from app.domain.jobs import Priority

NOW = datetime(2026, 11, 21, tzinfo=UTC)
A_S = timedelta(seconds=1)
SLOTS = 2


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


@dataclass
class Pool:
    """Workers that run what the fairness code grants them, chunk by chunk, each as long as its job's chunks take."""

    jobs: Sequence[Backlog]
    n_workers: int
    noise: Random
    share: FairShare = field(default_factory=FairShare)
    left: Counter[str] = field(default_factory=Counter)
    queues: list[list[str]] = field(default_factory=list)
    done: list[tuple[float, int]] = field(default_factory=list)
    started_s: dict[str, float] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        self.by_id = {job.job_id: job for job in self.jobs}
        self.left.update({job.job_id: job.ready.n_chunks for job in self.jobs})
        self.queues = [[] for _ in range(self.n_workers)]
        self._grant(0.0)
        while self.done:
            now_s, worker = heapq.heappop(self.done)
            self.ended_s[self.queues[worker].pop(0)] = now_s
            self._begin(worker, now_s)
            self._grant(now_s)

    def _grant(self, now_s: float) -> None:
        candidates = [
            Candidate(
                job_id=job.job_id,
                tenant_id=job.tenant_id,
                priority=job.priority,
                deadline_at=job.deadline_at,
                created_at=job.created_at,
                n_ready=self.left[job.job_id],
                mean_chunk_s=job.ready.chunk_s,
            )
            for job in self.jobs
        ]
        free = [worker for depth in range(SLOTS) for worker, queue in enumerate(self.queues) if len(queue) <= depth]
        for worker, candidate in zip(free, self.share.allot(candidates, len(free)), strict=False):
            self.left[candidate.job_id] -= 1
            self.queues[worker].append(candidate.job_id)
            if len(self.queues[worker]) == 1:
                self._begin(worker, now_s)

    def _begin(self, worker: int, now_s: float) -> None:
        if self.queues[worker]:
            job_id = self.queues[worker][0]
            self.started_s.setdefault(job_id, now_s)
            lasts_s = self.by_id[job_id].ready.chunk_s * self.noise.uniform(0.8, 1.2)
            heapq.heappush(self.done, (now_s + lasts_s, worker))


def what_happens(jobs: Sequence[Backlog], *, n_workers: int, seed: int = 1) -> Pool:
    pool = Pool(jobs, n_workers, Random(seed))  # noqa: S311 - a seeded test
    pool.run()
    return pool


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
        wrong = {
            job_id: (round(each.eta.seconds, 1), round(happened[job_id] + CLOSING_S, 1))
            for job_id, each in foretold.items()
            if not 0.5 < each.eta.seconds / (happened[job_id] + CLOSING_S) < 2
        }
        assert wrong == {}, (seed, wrong)
        outside = [job_id for job_id, each in foretold.items() if not each.eta.low <= happened[job_id] <= each.eta.high]
        assert outside == [], (seed, outside)


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
