"""Whose turn it is: shares are kept over time, nobody starves, and idleness earns nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.fairness import CLASS_WEIGHTS, FairShare, VirtualTime
from app.domain.jobs import Priority

STANDARD = Priority.STANDARD


@dataclass
class Worker:
    """Takes turn after turn; whoever joined always has work of the same cost."""

    costs: dict[tuple[Priority, str], float]
    weights: dict[str, float] = field(default_factory=dict)
    used: Counter[tuple[Priority, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.share = FairShare(lambda tenant: self.weights.get(tenant, 1.0))
        for priority, tenant in self.costs:
            self.share.join(priority, tenant)

    def turn(self) -> tuple[Priority, str]:
        chosen = self.share.first()
        assert chosen is not None
        self.share.charge(*chosen, self.costs[chosen])
        self.used[chosen] += self.costs[chosen]  # type: ignore[assignment]  # seconds
        return chosen

    def turns(self, number: int) -> Counter[tuple[Priority, str]]:
        for _ in range(number):
            self.turn()
        return self.used


@pytest.mark.parametrize("costs", [(1.0, 1.0, 1.0), (0.5, 3.0, 8.0), (20.0, 0.1, 1.0)])
def test_classes_share_sixteen_to_four_to_one_within_five_percent(costs: tuple[float, ...]) -> None:
    used = Worker(dict(zip(((each, "t") for each in Priority), costs, strict=True))).turns(20_000)
    for priority, weight in CLASS_WEIGHTS.items():
        wanted = weight / sum(CLASS_WEIGHTS.values())
        assert used[priority, "t"] / used.total() == pytest.approx(wanted, rel=0.05)


def test_a_class_takes_what_the_others_leave() -> None:
    worker = Worker({(Priority.URGENT, "a"): 1.0, (Priority.BACKGROUND, "b"): 1.0})
    used = worker.turns(1_700)
    assert used[Priority.BACKGROUND, "b"] / used.total() == pytest.approx(1 / 17, rel=0.05)
    worker.share.leave(Priority.URGENT, "a")
    assert {worker.turn() for _ in range(100)} == {(Priority.BACKGROUND, "b")}


TENANTS = st.dictionaries(
    st.sampled_from("abcdefgh"), st.tuples(st.floats(0.25, 8), st.floats(0.05, 10)), min_size=2, max_size=8
)


@settings(max_examples=60, deadline=None)
@given(TENANTS)
def test_tenants_share_their_class_by_weight_within_five_percent_whatever_their_chunks_cost(
    tenants: dict[str, tuple[float, float]],
) -> None:
    worker = Worker(
        {(STANDARD, name): cost for name, (_, cost) in tenants.items()},
        {name: weight for name, (weight, _) in tenants.items()},
    )
    total_weight = sum(worker.weights.values())
    while any(worker.used[STANDARD, name] < 40 * cost for name, (_, cost) in tenants.items()):
        worker.turns(50)
    for name, (weight, _) in tenants.items():
        assert worker.used[STANDARD, name] / worker.used.total() == pytest.approx(weight / total_weight, rel=0.05)


@settings(max_examples=60, deadline=None)
@given(TENANTS)
def test_at_any_moment_two_tenants_differ_by_no_more_than_a_chunk_of_each(
    tenants: dict[str, tuple[float, float]],
) -> None:
    """So nobody starves: this bounds how long anybody waits for a turn."""
    worker = Worker(
        {(STANDARD, name): cost for name, (_, cost) in tenants.items()},
        {name: weight for name, (weight, _) in tenants.items()},
    )
    for _ in range(300):
        worker.turn()
        had = {name: worker.used[STANDARD, name] / weight for name, (weight, _) in tenants.items()}
        largest = max(cost / weight for weight, cost in tenants.values())
        assert max(had.values()) - min(had.values()) <= largest + 1e-6


def test_idleness_earns_no_credit() -> None:
    worker = Worker({(STANDARD, "busy"): 1.0})
    worker.turns(500)
    worker.costs[STANDARD, "back"] = 1.0
    worker.share.join(STANDARD, "back")
    assert Counter(tenant for _, tenant in (worker.turn() for _ in range(100)))["back"] == pytest.approx(50, abs=2)


def test_leaving_and_coming_back_between_turns_escapes_no_debt() -> None:
    worker = Worker({(STANDARD, "steady"): 1.0, (STANDARD, "hopping"): 1.0})
    for _ in range(1_000):
        _, tenant = worker.turn()
        if tenant == "hopping":
            worker.share.leave(STANDARD, "hopping")
            worker.share.join(STANDARD, "hopping")
    assert worker.used[STANDARD, "hopping"] == pytest.approx(500, rel=0.05)


def test_shares_follow_what_chunks_really_used_where_estimates_are_wrong() -> None:
    share, used = FairShare(), Counter[str]()
    for tenant in ("cheap", "dear"):
        share.join(STANDARD, tenant)
    for _ in range(4_000):
        chosen = share.first()
        assert chosen is not None
        really_s = {"cheap": 1, "dear": 5}[chosen[1]]
        share.charge(*chosen, 2.0)
        share.correct(*chosen, charged_s=2.0, used_s=really_s)
        used[chosen[1]] += really_s
    assert used["dear"] / used.total() == pytest.approx(1 / 2, rel=0.05)


def test_a_chunk_that_never_ran_costs_nothing() -> None:
    share = FairShare()
    for tenant in ("a", "b"):
        share.join(STANDARD, tenant)
    assert share.first() == (STANDARD, "a")
    share.charge(STANDARD, "a", 10.0)
    share.correct(STANDARD, "a", charged_s=10.0, used_s=0.0)
    assert share.first() == (STANDARD, "a")


def test_those_who_cost_nothing_still_take_turns() -> None:
    assert set(Worker({(STANDARD, name): 0.0 for name in "abc"}).turns(30)) == {(STANDARD, name) for name in "abc"}


def test_what_is_remembered_does_not_grow_with_the_tenants_ever_seen() -> None:
    level = VirtualTime()
    level.join("stays")
    for number in range(5_000):
        level.join(f"tenant-{number}")
        level.charge(f"tenant-{number}", 1.0)
        level.leave(f"tenant-{number}")
        level.charge(level.first() or "", 1.0)
    assert len(level) < 50
