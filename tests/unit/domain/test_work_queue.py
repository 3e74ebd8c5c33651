"""Who runs next: no cap is passed, nothing idles that may run, nobody waits for ever, and the reason is told."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.jobs import Priority
from app.domain.tenant_places import Cap, QueuedJob
from app.domain.tenants import TenantQuota, TenantQuotas
from app.domain.work_queue import WorkQueue

NOW = datetime(2026, 11, 21, tzinfo=UTC)
POOL = "gpu"
MOST_BUSY = 6
OPEN = TenantQuota(
    weight=1.0,
    max_running_jobs=1_000,
    max_chunks=1_000,
    max_enqueued_tokens=10**12,
    requests_per_minute=1,
    max_storage_bytes=1,
    retention_s=1,
    budget=None,
)


def quotas(default: TenantQuota = OPEN, **own: TenantQuota) -> TenantQuotas:
    return TenantQuotas(default, own)


def job(
    name: str,
    *,
    tenant: str = "t",
    priority: Priority = Priority.STANDARD,
    deadline_s: float = 86_400,
    age_s: float = 0,
    tokens: int = 100,
    pools: tuple[str, ...] = (POOL,),
) -> QueuedJob:
    return QueuedJob(
        id=name,
        tenant_id=tenant,
        pools=pools,
        model="m",
        model_version="v1",
        priority=priority,
        deadline_at=NOW + timedelta(seconds=deadline_s),
        created_at=NOW - timedelta(seconds=age_s),
        is_admitted=False,
        remaining_tokens=tokens,
    )


@dataclass
class Work:
    """The rows, and what a dispatcher does with them; a chunk is one unit of ``cost_s`` and ``100`` tokens."""

    queue: WorkQueue
    left: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    busy: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    def put(self, *jobs: QueuedJob) -> None:
        for each in jobs:
            self.jobs[each.id], self.left[each.id] = each, -(-each.remaining_tokens // 100)
            self.queue.put(each)

    def look(self, n_slots: int, pool: str = POOL) -> list[str]:
        """Grant up to so many chunks; the jobs they are of."""
        given: list[str] = []
        for job_id in self.queue.idle_jobs:
            if self._n_ready(job_id):
                self.queue.has_ready(job_id)
        while len(given) < n_slots and (chosen := self.queue.next(pool)) is not None:
            if not self._n_ready(chosen.id):
                self.queue.has_nothing_ready(chosen.id)
                continue
            self.queue.started(chosen.id, pool=pool, cost_s=1.0)
            self.jobs[chosen.id] = replace(self.jobs[chosen.id], is_admitted=True)
            self.busy.append(chosen.id)
            given.append(chosen.id)
        self.given += given
        return given

    def end(self, job_id: str) -> None:
        """One of its chunks ends."""
        self.busy.remove(job_id)
        self.left[job_id] -= 1
        self.jobs[job_id] = replace(self.jobs[job_id], remaining_tokens=100 * self.left[job_id])
        if self.left[job_id]:
            self.queue.put(self.jobs[job_id])
        else:
            del self.jobs[job_id]
            self.queue.remove(job_id)
        self.queue.set_busy(self.n_busy())

    def n_busy(self) -> Counter[str]:
        return Counter(self.tenant_of[job_id] for job_id in self.busy)

    @property
    def tenant_of(self) -> dict[str, str]:
        return {job_id: each.tenant_id for job_id, each in self.jobs.items()}

    def _n_ready(self, job_id: str) -> int:
        return self.left[job_id] - self.busy.count(job_id)


def work(*jobs: QueuedJob, default: TenantQuota = OPEN, **own: TenantQuota) -> Work:
    made = Work(WorkQueue(quotas(default, **own)))
    made.put(*jobs)
    return made


# -- inside a tenant


def test_the_earliest_deadline_goes_first_then_the_oldest() -> None:
    late, soon = job("late", deadline_s=900), job("soon", deadline_s=60)
    old, new = job("old", deadline_s=100, age_s=50), job("new", deadline_s=100, age_s=5)
    assert work(late, new, soon, old).look(4) == ["soon", "old", "new", "late"]


def test_many_jobs_of_one_tenant_get_no_more_than_one_job_of_another() -> None:
    crowd = [job(f"crowd-{number}", tenant="crowd", tokens=1_000) for number in range(20)]
    given = Counter(work(job("lone", tenant="lone", tokens=20_000), *crowd).look(200))
    assert given["lone"] == pytest.approx(100, abs=2)


def test_a_job_whose_priority_or_deadline_changes_takes_its_new_turn() -> None:
    made = work(job("a", tokens=200), job("b", tokens=200, deadline_s=90_000))
    assert made.look(1) == ["a"]
    made.put(job("b", deadline_s=10, tokens=200))
    assert made.look(1) == ["b"]
    made.put(job("a", priority=Priority.URGENT, tokens=200))
    assert made.look(1) == ["a"]


def test_a_job_with_nothing_ready_lets_others_pass_until_it_has_something_again() -> None:
    made = work(job("first", deadline_s=1, tokens=100), job("second", tokens=500))
    assert made.look(3) == ["first", "second", "second"]
    made.left["first"] = 2
    assert made.look(2) == ["first", "second"]


def test_a_removed_job_is_not_chosen_any_more() -> None:
    made = work(job("a", deadline_s=1, tokens=1_000), job("b", tokens=1_000))
    made.look(1)
    made.queue.remove("a")
    assert made.look(2) == ["b", "b"]
    made.queue.remove("a")


# -- the caps


def test_no_more_jobs_of_a_tenant_run_than_it_may_and_the_others_say_why() -> None:
    made = work(*(job(f"job-{n}", age_s=-n, tokens=300) for n in range(4)), default=replace(OPEN, max_running_jobs=2))
    assert made.look(100) == ["job-0"] * 3 + ["job-1"] * 3
    assert made.queue.kept_back() == {"job-2": Cap.MAX_RUNNING_JOBS, "job-3": Cap.MAX_RUNNING_JOBS}
    for _ in range(3):
        made.end("job-0")
    assert made.look(100) == ["job-2"] * 3
    assert made.queue.cap_on("job-3") is Cap.MAX_RUNNING_JOBS


def test_a_job_that_waits_for_its_turn_only_is_behind_other_work() -> None:
    made = work(job("a"), job("b", age_s=-1), default=replace(OPEN, max_running_jobs=2))
    assert made.look(1) == ["a"]
    assert made.queue.cap_on("b") is None
    assert made.queue.cap_on("unheard-of") is None


def test_no_more_chunks_of_a_tenant_are_with_workers_than_may_be() -> None:
    made = work(job("a", tenant="small", tokens=1_000), job("b", tenant="big", tokens=1_000))
    made.queue.change_quotas(quotas(small=replace(OPEN, max_chunks=2)))
    assert Counter(made.look(10)) == {"a": 2, "b": 8}
    assert made.queue.kept_back() == {"a": Cap.MAX_CHUNKS}
    made.end("a")
    assert made.look(10) == ["a", "b", "b"] or made.look(0) == []
    assert made.n_busy()["small"] == 2


def test_tokens_of_admitted_jobs_stay_below_the_quota_and_free_as_they_run() -> None:
    quota = replace(OPEN, max_enqueued_tokens=500)
    made = work(*(job(f"job-{n}", age_s=-n, tokens=200) for n in range(3)), default=quota)
    assert set(made.look(100)) == {"job-0", "job-1"}
    assert made.queue.kept_back() == {"job-2": Cap.MAX_ENQUEUED_TOKENS}
    made.end("job-0")
    assert made.look(100) == ["job-2", "job-2"]


def test_a_job_larger_than_the_whole_token_quota_runs_alone_and_nobody_overtakes_it() -> None:
    quota = replace(OPEN, max_enqueued_tokens=500)
    large, small = job("large", tokens=900, deadline_s=50), job("small", tokens=100, deadline_s=100)
    made = work(job("first", tokens=200, deadline_s=1), default=quota)
    assert made.look(1) == ["first"]
    made.put(large, small)
    assert made.look(5) == ["first"]
    assert made.queue.kept_back() == dict.fromkeys(["large", "small"], Cap.MAX_ENQUEUED_TOKENS)
    made.end("first")
    made.end("first")
    assert set(made.look(5)) == {"large"}
    for _ in range(5):
        made.end("large")
    assert "small" in made.look(5)


def test_who_comes_with_an_earlier_deadline_goes_before_those_who_were_only_promised_a_place() -> None:
    made = work(job("a"), job("b", age_s=-1), default=replace(OPEN, max_running_jobs=1))
    assert made.queue.cap_on("a") is None
    made.put(job("c", deadline_s=1))
    assert made.queue.cap_on("a") is Cap.MAX_RUNNING_JOBS
    assert made.look(2) == ["c"]


def test_an_admitted_job_stays_admitted_whoever_comes() -> None:
    made = work(job("a", tokens=500), default=replace(OPEN, max_running_jobs=1))
    made.look(1)
    made.put(job("b", deadline_s=1, priority=Priority.URGENT))
    assert made.look(2) == ["a", "a"]


def test_a_quota_that_changes_holds_at_once_for_all_who_have_not_begun() -> None:
    made = work(*(job(f"job-{n}", age_s=-n, tokens=200) for n in range(6)))
    made.look(3)  # two have begun
    made.queue.change_quotas(quotas(t=replace(OPEN, max_running_jobs=3)))
    assert set(made.queue.kept_back()) == {"job-3", "job-4", "job-5"}
    made.queue.change_quotas(quotas(t=replace(OPEN, max_running_jobs=1)))
    assert made.look(10) == ["job-1"]
    made.queue.change_quotas(quotas())
    assert made.queue.kept_back() == {}


def test_a_job_without_anything_ready_keeps_no_place_that_others_could_use() -> None:
    made = work(job("waits", deadline_s=1), job("runs"), default=replace(OPEN, max_running_jobs=1))
    made.left["waits"] = 0
    assert made.look(1) == ["runs"]
    assert made.queue.cap_on("waits") is None


def test_places_are_shared_over_pools_in_one_line() -> None:
    made = work(job("gpu", pools=("gpu",), deadline_s=1), job("cpu", pools=("cpu",)))
    made.queue.change_quotas(quotas(t=replace(OPEN, max_running_jobs=1)))
    assert made.look(1, "cpu") == []
    assert made.look(1, "gpu") == ["gpu"]
    made.end("gpu")
    assert made.look(1, "cpu") == ["cpu"]


def test_a_job_that_may_run_in_two_pools_runs_in_both() -> None:
    made = work(job("both", pools=("gpu", "cpu"), tokens=400))
    assert made.look(1, "cpu") + made.look(2, "gpu") == ["both"] * 3


def test_each_cap_has_its_reason_in_the_contract() -> None:
    assert {cap: cap.waiting_reason for cap in Cap} == {
        Cap.MAX_RUNNING_JOBS: "tenant_concurrency",
        Cap.MAX_CHUNKS: "tenant_concurrency",
        Cap.MAX_ENQUEUED_TOKENS: "tenant_tokens",
    }


# -- whatever the work is


def random_quota(chance: Random) -> TenantQuota:
    return replace(
        OPEN,
        weight=chance.uniform(0.5, 4),
        max_running_jobs=chance.randint(1, 3),
        max_chunks=chance.randint(1, 4),
        max_enqueued_tokens=chance.randint(1, 1_500),
    )


def random_jobs(chance: Random) -> list[QueuedJob]:
    return [
        job(
            f"job-{place}",
            tenant=chance.choice("abc"),
            priority=chance.choice(list(Priority)),
            tokens=chance.randint(1, 900),
            deadline_s=chance.randint(1, 1_000),
        )
        for place in range(chance.randint(1, 14))
    ]


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32).map(Random))
def test_whatever_comes_no_cap_is_passed_nothing_idles_and_everything_ends(chance: Random) -> None:
    own = {name: random_quota(chance) for name in "abc"}
    made, coming = work(**own), random_jobs(chance)
    wanted = {each.id: -(-each.remaining_tokens // 100) for each in coming}
    while coming or made.jobs:
        for _ in range(chance.randint(0, len(coming))):
            made.put(coming.pop())
        made.look(chance.randint(1, 4))
        _check_caps(made, own)
        if len(made.busy) < MOST_BUSY and not made.look(1):
            _check_that_nothing_may_run(made, own)
        if made.busy:
            made.end(chance.choice(made.busy))
        else:
            assert coming or not made.jobs, "work waits and nothing runs"
    assert Counter(made.given) == wanted


def _check_caps(made: Work, own: dict[str, TenantQuota]) -> None:
    for tenant, quota in own.items():
        admitted = [each for each in made.jobs.values() if each.tenant_id == tenant and each.is_admitted]
        assert len(admitted) <= quota.max_running_jobs
        assert made.n_busy()[tenant] <= quota.max_chunks
        assert sum(each.remaining_tokens for each in admitted) <= quota.max_enqueued_tokens or len(admitted) == 1


def _check_that_nothing_may_run(made: Work, own: dict[str, TenantQuota]) -> None:
    """Said anew from the rules: for each tenant its chunks are spent, or nobody admitted is ready and no one fits."""
    for tenant, quota in own.items():
        mine = [each for each in made.jobs.values() if each.tenant_id == tenant]
        admitted = [each for each in mine if each.is_admitted]
        if made.n_busy()[tenant] >= quota.max_chunks or not mine:
            continue
        assert not any(made.left[each.id] > made.busy.count(each.id) for each in admitted)
        line = sorted(
            (each for each in mine if not each.is_admitted),
            key=lambda each: (list(Priority).index(each.priority), each.deadline_at, each.created_at, each.id),
        )
        if line:
            held = sum(each.remaining_tokens for each in admitted)
            fits = held + line[0].remaining_tokens <= quota.max_enqueued_tokens or not admitted
            assert len(admitted) >= quota.max_running_jobs or not fits


# -- however many wait


def test_a_decision_takes_no_more_steps_where_a_thousand_times_more_wait() -> None:
    few, many = steps_of_a_decision(10), steps_of_a_decision(10_000)
    assert many < 5 * few


def steps_of_a_decision(n_tenants: int) -> float:
    """Python function calls for one grant among so many tenants."""
    made = work(*(job(f"job-{n}", tenant=f"tenant-{n}", tokens=100_000) for n in range(n_tenants)))
    made.look(1)
    n_calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal n_calls
        n_calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        made.look(20)
    finally:
        sys.setprofile(None)
    return n_calls / 20
