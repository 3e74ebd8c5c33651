"""A group's state and counts follow from its members alone."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.groups import Group, GroupOrder, Member, counts_of, group_state
from app.domain.jobs import Counts
from app.domain.line_count import LineCounter
from app.domain.result_pages import Cursor, GroupCursor
from app.domain.states import TERMINAL_JOB_STATES, JobState

NOW = datetime(2026, 11, 24, tzinfo=UTC)
J = JobState
states = st.sampled_from(sorted(JobState))


def group(**changes: Any) -> Group:
    nothing: dict[str, Any] = {field.name: None for field in fields(Group)}
    planned = {"validated_at": NOW, "planned_at": NOW, "order_seq": 0, "member": {}}
    return Group(**{**nothing, **planned, **changes})


def members(*in_states: JobState, order_seq: int = 0) -> list[Member]:
    return [
        Member(
            id=f"job_{n}",
            ordinal=n,
            state=state,
            order_seq=order_seq,
            attempt_runs=0,
            final=None,
            started_at=None,
            finished_at=None,
        )
        for n, state in enumerate(in_states)
    ]


@pytest.mark.parametrize(
    ("changes", "in_states", "state"),
    [
        ({"validated_at": None, "planned_at": None}, (), J.VALIDATING),
        ({"planned_at": None}, (), J.QUEUED),
        ({"planned_at": None}, (J.QUEUED,), J.QUEUED),
        ({"planned_at": None}, (J.SUCCEEDED,), J.RUNNING),
        ({}, (J.QUEUED, J.QUEUED), J.QUEUED),
        ({}, (J.SUCCEEDED, J.QUEUED), J.RUNNING),
        ({}, (J.RUNNING, J.PAUSED), J.RUNNING),
        ({}, (J.SUCCEEDED, J.PAUSED), J.PAUSED),
        ({}, (J.SUCCEEDED, J.HELD), J.HELD),
        ({}, (J.SUCCEEDED, J.FINALIZING), J.FINALIZING),
        ({}, (J.SUCCEEDED, J.SUCCEEDED), J.SUCCEEDED),
        ({}, (J.FAILED, J.FAILED), J.FAILED),
        ({}, (J.SUCCEEDED, J.FAILED), J.PARTIALLY_SUCCEEDED),
        ({}, (J.SUCCEEDED, J.PARTIALLY_SUCCEEDED), J.PARTIALLY_SUCCEEDED),
        ({}, (J.SUCCEEDED, J.EXPIRED), J.EXPIRED),
        ({}, (J.EXPIRED, J.CANCELLED), J.CANCELLED),
        ({"order_kind": GroupOrder.CANCEL, "order_seq": 1}, (J.RUNNING, J.SUCCEEDED), J.CANCELLING),
        ({"order_kind": GroupOrder.CANCEL, "order_seq": 1, "planned_at": None}, (J.CANCELLED,), J.CANCELLING),
        ({"order_kind": GroupOrder.CANCEL, "order_seq": 1}, (J.SUCCEEDED,), J.SUCCEEDED),
        ({"order_kind": GroupOrder.PAUSE, "order_seq": 1}, (J.RUNNING, J.PAUSED), J.PAUSED),
        ({"order_kind": GroupOrder.RETRY, "order_seq": 1}, (J.FAILED,), J.RUNNING),
        ({"failure": {"code": "x"}}, (), J.FAILED),
        ({"failure": {"code": "x"}, "order_kind": GroupOrder.CANCEL}, (), J.CANCELLED),
    ],
)
def test_the_table_of_states(changes: dict[str, Any], in_states: tuple[JobState, ...], state: JobState) -> None:
    assert group_state(group(**changes), members(*in_states)) is state


@given(in_states=st.lists(states, min_size=1), order=st.sampled_from([None, *GroupOrder]), is_planned=st.booleans())
def test_a_group_has_ended_exactly_if_it_is_planned_and_every_member_has(
    *, in_states: list[JobState], order: GroupOrder | None, is_planned: bool
) -> None:
    found = group_state(
        group(planned_at=NOW if is_planned else None, order_kind=order, order_seq=1), members(*in_states, order_seq=1)
    )
    assert (found in TERMINAL_JOB_STATES) == (is_planned and set(in_states) <= TERMINAL_JOB_STATES)


@given(st.lists(states, min_size=1), st.randoms())
def test_the_order_of_members_does_not_matter(in_states: list[JobState], random: Any) -> None:
    shuffled = list(in_states)
    random.shuffle(shuffled)
    assert group_state(group(), members(*in_states)) is group_state(group(), members(*shuffled))


counts = st.fixed_dictionaries(
    {name: st.integers(0, 50) for name in ("pending", "running", "succeeded", "failed", "cancelled", "expired")}
)


@given(counts, st.lists(counts, max_size=4), st.integers(0, 2000))
def test_counts_always_sum_and_reach_the_total(live: dict[str, int], ended: list[dict[str, int]], total: int) -> None:
    summed = counts_of(Counts(total=sum(live.values()), **live), ended, total=total)
    parts = replace(summed, total=0)
    assert summed.total == parts.pending + parts.running + parts.finished
    assert summed.total == max(total, sum(sum(each.values()) for each in [live, *ended]))
    assert summed.succeeded == sum(each["succeeded"] for each in [live, *ended])


@given(*[st.integers(0, 999_999_999)] * 5)
def test_a_cursor_comes_back_as_it_went(ordinal: int, n_runs: int, seq: int, n_lines: int, run: int) -> None:
    cursor = GroupCursor(ordinal, n_runs, Cursor(seq, n_lines, run))
    assert GroupCursor.decode(cursor.encode()) == cursor


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"bc\n", b"\n\n", b"\t"])))
def test_lines_are_counted_the_same_however_the_text_is_cut(pieces: list[bytes]) -> None:
    counter = LineCounter()
    for piece in pieces:
        counter.feed(piece)
    whole = b"".join(pieces).rstrip()
    assert counter.n_lines == (whole.count(b"\n") + 1 if whole else 0)
