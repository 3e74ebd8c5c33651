"""The states of jobs and chunks and the only table of how they change.

A repository changes a state with ``UPDATE ... WHERE state = expected`` after :func:`check_job` or
:func:`check_chunk` allowed the pair, acts only if one row changed, and appends an event in the same transaction.
"""

from __future__ import annotations

from enum import StrEnum

from app.errors import StateConflict


class JobState(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating"  # accepted and durable; its input is not yet checked
    QUEUED = "queued"  # planned into chunks, none has run; or to be retried
    RUNNING = "running"  # at least one chunk was claimed
    FINALIZING = "finalizing"  # every chunk is terminal; results are being closed
    CANCELLING = "cancelling"  # a cancel was asked for; running chunks are being stopped
    HELD = "held"  # the sample gate stopped it for review
    PAUSED = "paused"  # the tenant paused it
    SUCCEEDED = "succeeded"  # every item succeeded
    PARTIALLY_SUCCEEDED = "partially_succeeded"  # some items succeeded
    FAILED = "failed"  # none succeeded, or the input was refused
    EXPIRED = "expired"  # the deadline passed; what finished is kept
    CANCELLED = "cancelled"  # cancelled; what finished is kept


class ChunkState(StrEnum):
    """Where a chunk stands."""

    PENDING = "pending"  # waits for the dispatcher (and for ``not_before``)
    GRANTED = "granted"  # published to a device queue
    RUNNING = "running"  # claimed under a lease
    DONE = "done"  # its outcomes are committed
    SPLIT = "split"  # replaced by smaller chunks
    CANCELLED = "cancelled"  # never ran, or was stopped, because its job was cancelled
    EXPIRED = "expired"  # never ran, or was stopped, because its job's deadline passed


_J = JobState
_ENDS = {_J.SUCCEEDED, _J.PARTIALLY_SUCCEEDED, _J.FAILED, _J.EXPIRED, _J.CANCELLED}

JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    _J.VALIDATING: frozenset({_J.QUEUED, _J.FAILED, _J.CANCELLED, _J.CANCELLING, _J.PAUSED, _J.FINALIZING}),
    _J.QUEUED: frozenset({_J.RUNNING, _J.CANCELLING, _J.PAUSED, _J.FINALIZING}),
    _J.RUNNING: frozenset({_J.FINALIZING, _J.CANCELLING, _J.PAUSED, _J.HELD}),
    _J.HELD: frozenset({_J.RUNNING, _J.CANCELLING, _J.FINALIZING}),
    _J.PAUSED: frozenset({_J.VALIDATING, _J.QUEUED, _J.RUNNING, _J.CANCELLING, _J.FINALIZING, _J.FAILED}),
    _J.CANCELLING: frozenset({_J.CANCELLED}),
    _J.FINALIZING: frozenset({_J.SUCCEEDED, _J.PARTIALLY_SUCCEEDED, _J.FAILED, _J.EXPIRED, _J.CANCELLED}),
    # An end is left only by a retry, which needs an item that did not succeed.
    **{end: frozenset({_J.QUEUED}) for end in _ENDS - {_J.SUCCEEDED}},
    _J.SUCCEEDED: frozenset(),
}

TERMINAL_JOB_STATES = frozenset(_ENDS)
LIVE_JOB_STATES = frozenset(set(JobState) - _ENDS)
RUNNABLE_JOB_STATES = frozenset({_J.QUEUED, _J.RUNNING})
"""States in which a job's chunks may be granted and claimed."""

_C = ChunkState
CHUNK_TRANSITIONS: dict[ChunkState, frozenset[ChunkState]] = {
    _C.PENDING: frozenset({_C.GRANTED, _C.CANCELLED, _C.EXPIRED}),
    _C.GRANTED: frozenset({_C.RUNNING, _C.PENDING, _C.CANCELLED, _C.EXPIRED}),
    _C.RUNNING: frozenset({_C.RUNNING, _C.PENDING, _C.DONE, _C.SPLIT, _C.CANCELLED, _C.EXPIRED}),
    _C.DONE: frozenset(),
    _C.SPLIT: frozenset(),
    _C.CANCELLED: frozenset(),
    _C.EXPIRED: frozenset(),
}

TERMINAL_CHUNK_STATES = frozenset({_C.DONE, _C.SPLIT, _C.CANCELLED, _C.EXPIRED})
LIVE_CHUNK_STATES = frozenset(set(ChunkState) - TERMINAL_CHUNK_STATES)
WAITING_CHUNK_STATES = frozenset({_C.PENDING, _C.GRANTED})
"""States in which no worker holds a chunk."""

STOPPED_CHUNK = {"cancelled": ChunkState.CANCELLED, "expired": ChunkState.EXPIRED}
"""How a chunk that did not run ends, by its job's ``stop_reason``."""


def check_job(current: JobState, wanted: JobState) -> None:
    """Refuse a change that the table does not hold.

    Raises:
        StateConflict: with both states.
    """
    if wanted not in JOB_TRANSITIONS[current]:
        raise StateConflict(f"a job that is {current} cannot become {wanted}", current=current, wanted=wanted)


def check_chunk(current: ChunkState, wanted: ChunkState) -> None:
    """Refuse a change that the table does not hold.

    Raises:
        StateConflict: with both states.
    """
    if wanted not in CHUNK_TRANSITIONS[current]:
        raise StateConflict(f"a chunk that is {current} cannot become {wanted}", current=current, wanted=wanted)


def final_state(*, total: int, succeeded: int, cancelled: int, expired: int) -> JobState:
    """The state in which a job with these outcomes ends."""
    if cancelled:
        return JobState.CANCELLED
    if expired:
        return JobState.EXPIRED
    if succeeded == total:
        return JobState.SUCCEEDED
    return JobState.PARTIALLY_SUCCEEDED if succeeded else JobState.FAILED
