"""Who runs next: nothing idles while work waits, nobody starves, shares are kept over time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fairness import CLASS_WEIGHTS, Candidate, FairShare
from app.domain.jobs import Priority

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def candidate(
    job: str,
    *,
    tenant: str = "t",
    priority: Priority = Priority.STANDARD,
    n_ready: int = 1,
    mean_chunk_s: float = 1.0,
    deadline_s: float = 86_400,
    age_s: float = 0,
) -> Candidate:
    return Candidate(
        job_id=job,
        tenant_id=tenant,
        priority=priority,
        deadline_at=NOW + timedelta(seconds=deadline_s),
        created_at=NOW - timedelta(seconds=age_s),
        n_ready=n_ready,
        mean_chunk_s=mean_chunk_s,
    )


CANDIDATES = st.lists(
    st.builds(
        candidate,
        job=st.uuids().map(str),
        tenant=st.sampled_from("abcde"),
        priority=st.sampled_from(Priority),
        n_ready=st.integers(0, 5),
        mean_chunk_s=st.floats(0, 30),
        deadline_s=st.floats(0, 1000),
    ),
    max_size=12,
)


@given(st.lists(st.tuples(CANDIDATES, st.integers(0, 10)), max_size=5))
def test_every_slot_is_used_while_work_is_ready_and_no_job_gets_more_than_it_has(
    rounds: list[tuple[list[Candidate], int]],
) -> None:
    share = FairShare()
    for candidates, n_slots in rounds:
        ready = {job.job_id: job.n_ready for job in candidates}
        given_jobs = Counter(job.job_id for job in share.allot(candidates, n_slots))
        assert given_jobs.total() == min(n_slots, sum(ready.values()))
        assert all(n_given <= ready[job_id] for job_id, n_given in given_jobs.items())


def shares_over(rounds: int, *jobs: Candidate, slots: int = 3) -> Counter[str]:
    """Device seconds given to each job while all of them always have work."""
    share, seconds = FairShare(), Counter[str]()
    for _ in range(rounds):
        for job in jobs:
            job.n_ready = slots
        for job in share.allot(list(jobs), slots):
            seconds[job.job_id] += int(job.mean_chunk_s * 1000)
    return seconds


@pytest.mark.parametrize("chunk_s", [(1.0, 1.0, 1.0), (0.5, 3.0, 8.0)])
def test_classes_share_sixteen_to_four_to_one_within_five_percent(chunk_s: tuple[float, float, float]) -> None:
    jobs = [
        candidate(priority, priority=priority, mean_chunk_s=cost)
        for priority, cost in zip(Priority, chunk_s, strict=True)
    ]
    seconds = shares_over(20_000, *jobs)
    for priority in Priority:
        wanted = CLASS_WEIGHTS[priority] / sum(CLASS_WEIGHTS.values())
        assert seconds[priority] / seconds.total() == pytest.approx(wanted, rel=0.05)


def test_tenants_share_evenly_by_device_time_whatever_the_size_of_their_chunks() -> None:
    jobs = [candidate(name, tenant=name, mean_chunk_s=cost) for name, cost in {"a": 0.1, "b": 1.0, "c": 7.0}.items()]
    seconds = shares_over(5_000, *jobs)
    for name in "abc":
        assert seconds[name] / seconds.total() == pytest.approx(1 / 3, rel=0.05)


def test_many_jobs_of_one_tenant_get_no_more_than_one_job_of_another() -> None:
    crowd = [candidate(f"crowd-{number}", tenant="crowd") for number in range(20)]
    seconds = shares_over(2_000, candidate("lone", tenant="lone"), *crowd)
    assert seconds["lone"] / seconds.total() == pytest.approx(1 / 2, rel=0.05)


@settings(max_examples=30)
@given(st.lists(st.floats(0.01, 20), min_size=2, max_size=8))
def test_nobody_waits_longer_than_the_others_work_allows(costs: list[float]) -> None:
    """Between two turns of a tenant each other one gets at most about the cost of one turn more than it."""
    share, waited_s, last = FairShare(), Counter[str](), 0.0
    jobs = [candidate(f"job-{place}", tenant=f"tenant-{place}", mean_chunk_s=cost) for place, cost in enumerate(costs)]
    bound_s = len(jobs) * 2 * max(costs)
    for _ in range(300):
        for job in jobs:
            job.n_ready = 1
        (chosen,) = share.allot(jobs, 1)
        last = chosen.mean_chunk_s
        waited_s.update({job.job_id: last for job in jobs})
        waited_s[chosen.job_id] = 0
        assert max(waited_s.values()) <= bound_s


def test_the_lowest_class_is_not_starved() -> None:
    jobs = [candidate(priority, priority=priority) for priority in Priority]
    seconds = shares_over(100, *jobs, slots=1)
    assert seconds[Priority.BACKGROUND] >= 4_000


def test_idleness_earns_no_credit() -> None:
    share = FairShare()
    busy = candidate("busy", tenant="busy", n_ready=1000)
    share.allot([busy], 500)
    back = candidate("back", tenant="back", n_ready=1000)
    given_jobs = Counter(job.job_id for job in share.allot([busy, back], 100))
    assert given_jobs["back"] == pytest.approx(50, abs=2)


def test_inside_a_tenant_the_earliest_deadline_goes_first_then_the_oldest() -> None:
    late, soon = candidate("late", deadline_s=900), candidate("soon", deadline_s=60)
    old, new = candidate("old", deadline_s=100, age_s=50), candidate("new", deadline_s=100, age_s=5)
    order = [job.job_id for job in FairShare().allot([late, new, soon, old], 4)]
    assert order == ["soon", "old", "new", "late"]


def test_what_is_remembered_does_not_grow_with_the_tenants_ever_seen() -> None:
    share = FairShare()
    for number in range(2_000):
        share.allot([candidate(f"job-{number}", tenant=f"tenant-{number}")], 1)
    assert len(share._tenants[Priority.STANDARD].spent) < 50
