"""The one table of states: complete, ended ends, and every live state can reach an end."""

from __future__ import annotations

import itertools

import pytest

from app.domain.states import (
    CHUNK_TRANSITIONS,
    JOB_TRANSITIONS,
    LIVE_CHUNK_STATES,
    LIVE_JOB_STATES,
    RUNNABLE_JOB_STATES,
    STOPPED_CHUNK,
    TERMINAL_CHUNK_STATES,
    TERMINAL_JOB_STATES,
    ChunkState,
    JobState,
    check_chunk,
    check_job,
    final_state,
)
from app.errors import StateConflict


def reachable(table: dict[JobState, frozenset[JobState]], start: JobState) -> set[JobState]:
    found, frontier = {start}, [start]
    while frontier:
        new = table[frontier.pop()] - found
        found |= new
        frontier += new
    return found


def test_every_state_has_its_row() -> None:
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert set(CHUNK_TRANSITIONS) == set(ChunkState)


def test_terminal_states_are_exactly_those_that_nothing_but_a_retry_leaves() -> None:
    left = {state: after for state, after in JOB_TRANSITIONS.items() if after}
    retried = {state for state, after in left.items() if after == {JobState.QUEUED}}
    assert retried == TERMINAL_JOB_STATES - {JobState.SUCCEEDED}
    assert {state for state in JobState if state not in left} == {JobState.SUCCEEDED}
    assert {state for state, after in CHUNK_TRANSITIONS.items() if not after} == TERMINAL_CHUNK_STATES
    assert set(JobState) == LIVE_JOB_STATES | TERMINAL_JOB_STATES
    assert set(ChunkState) == LIVE_CHUNK_STATES | TERMINAL_CHUNK_STATES


@pytest.mark.parametrize("state", sorted(LIVE_JOB_STATES))
def test_a_live_job_can_always_end_and_always_be_cancelled(state: JobState) -> None:
    assert reachable(JOB_TRANSITIONS, state) & TERMINAL_JOB_STATES
    assert JobState.CANCELLED in reachable(JOB_TRANSITIONS, state)


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(JobState, JobState)))
def test_a_job_changes_only_as_the_table_says(current: JobState, wanted: JobState) -> None:
    if wanted in JOB_TRANSITIONS[current]:
        check_job(current, wanted)
        return
    with pytest.raises(StateConflict) as refused:
        check_job(current, wanted)
    assert (refused.value.current, refused.value.wanted) == (current, wanted)


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(ChunkState, ChunkState)))
def test_a_chunk_changes_only_as_the_table_says(current: ChunkState, wanted: ChunkState) -> None:
    if wanted in CHUNK_TRANSITIONS[current]:
        check_chunk(current, wanted)
        return
    with pytest.raises(StateConflict):
        check_chunk(current, wanted)


def test_what_stops_a_job_closes_its_waiting_chunks() -> None:
    for stopped in STOPPED_CHUNK.values():
        for waiting in (ChunkState.PENDING, ChunkState.GRANTED, ChunkState.RUNNING):
            check_chunk(waiting, stopped)


def test_chunks_run_only_in_jobs_that_have_not_been_stopped() -> None:
    assert {JobState.QUEUED, JobState.RUNNING} == RUNNABLE_JOB_STATES


@pytest.mark.parametrize(
    ("succeeded", "failed", "cancelled", "expired", "state"),
    [
        (3, 0, 0, 0, JobState.SUCCEEDED),
        (2, 1, 0, 0, JobState.PARTIALLY_SUCCEEDED),
        (0, 3, 0, 0, JobState.FAILED),
        (2, 0, 1, 0, JobState.CANCELLED),
        (2, 0, 0, 1, JobState.EXPIRED),
        (0, 0, 1, 1, JobState.CANCELLED),
    ],
)
def test_outcomes_decide_how_a_job_ends(
    succeeded: int, failed: int, cancelled: int, expired: int, state: JobState
) -> None:
    total = succeeded + failed + cancelled + expired
    assert final_state(total=total, succeeded=succeeded, cancelled=cancelled, expired=expired) is state
