"""A group: jobs that share one input above a job's limits, seen as one.

Nothing of its state is stored. It follows from how far the input was planned, from the latest order, and from the
states of the members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.domain.jobs import Cost, Counts, Dialect, Usage
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.errors import StateConflict


class GroupOrder(StrEnum):
    """What a client asked of all members, one after another."""

    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One row of ``groups``."""

    id: str
    tenant_id: str
    member: dict[str, Any]
    """What every member's row begins with."""
    input_file_id: str
    input_key: str
    input_size_bytes: int
    n_items: int | None
    """Counted when the file was uploaded, certain once ``validated_at`` is set."""
    model: str | None
    """As asked for, later as the lines name it."""
    validation_errors: list[dict[str, Any]]
    failure: dict[str, Any] | None
    n_members: int
    planned_items: int
    planned_bytes: int
    order_kind: GroupOrder | None
    order_seq: int
    order_data: dict[str, Any]
    created_at: datetime
    deadline_at: datetime
    validated_at: datetime | None
    planned_at: datetime | None
    """When the last member was made, or the input was refused."""
    closed_at: datetime | None
    """When it was noted that every member has ended."""
    results_expire_at: datetime | None

    @property
    def dialect(self) -> Dialect:
        """Groups are native."""
        return Dialect(self.member["dialect"])

    @property
    def endpoint(self) -> str:
        """The route each line is for."""
        endpoint: str = self.member["endpoint"]
        return endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A job of a group, as far as the group needs to know it."""

    id: str
    ordinal: int
    state: JobState
    order_seq: int
    attempt_runs: int
    final: dict[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDetails:
    """A group with everything that is summed over its members."""

    group: Group
    state: JobState
    members: Sequence[Member]
    counts: Counts
    usage: Usage
    cost: Cost
    errors_by_code: dict[str, int]
    webhook_secret: str | None = None
    """As of ``JobDetails``."""

    @property
    def started_at(self) -> datetime | None:
        """When the first member began to run."""
        return min((member.started_at for member in self.members if member.started_at), default=None)

    @property
    def finished_at(self) -> datetime | None:
        """When the last member ended, or the input was refused; None while the group lives."""
        if self.state not in TERMINAL_JOB_STATES:
            return None
        ends = [member.finished_at for member in self.members if member.finished_at]
        return max(ends, default=self.group.planned_at)


def group_state(group: Group, members: Sequence[Member]) -> JobState:
    """How a group stands, in the words for jobs."""
    if group.failure is not None and not members:
        return JobState.CANCELLED if group.order_kind is GroupOrder.CANCEL else JobState.FAILED
    states = {member.state for member in members}
    if group.planned_at is not None and states <= TERMINAL_JOB_STATES and not has_open_order(group, members):
        return ended_state(states)
    if group.order_kind is GroupOrder.CANCEL:
        return JobState.CANCELLING
    if group.order_kind is GroupOrder.PAUSE:
        return JobState.PAUSED
    return _live_state(group, states)


def has_open_order(group: Group, members: Sequence[Member]) -> bool:
    """Whether the latest order has yet to reach a member, and means anything to one that has ended."""
    waits = any(member.order_seq < group.order_seq for member in members)
    return waits and group.order_kind is GroupOrder.RETRY


def ended_state(states: set[JobState]) -> JobState:
    """The state of a group whose members ended in these: what was stopped shows, as in a job."""
    for stopped in (JobState.CANCELLED, JobState.EXPIRED):
        if stopped in states:
            return stopped
    return next(iter(states)) if len(states) == 1 else JobState.PARTIALLY_SUCCEEDED


def _live_state(group: Group, states: set[JobState]) -> JobState:
    if group.validated_at is None:
        return JobState.VALIDATING
    live = states - TERMINAL_JOB_STATES
    if group.planned_at is not None and len(live) == 1 and live <= _SHARED:
        return next(iter(live))
    return JobState.RUNNING if states - {JobState.QUEUED, JobState.VALIDATING} - _SHARED else JobState.QUEUED


_SHARED = frozenset({JobState.FINALIZING, JobState.HELD, JobState.PAUSED, JobState.CANCELLING})
"""States that a group is in once all of its members that live are."""


_OBEYED = {
    GroupOrder.CANCEL: frozenset({JobState.CANCELLING, JobState.CANCELLED}),
    GroupOrder.PAUSE: frozenset({JobState.PAUSED}),
    GroupOrder.RESUME: frozenset({JobState.VALIDATING, JobState.QUEUED, JobState.RUNNING}),
}
_OBEYS = {
    GroupOrder.CANCEL: frozenset(set(JobState) - TERMINAL_JOB_STATES - {JobState.FINALIZING, JobState.CANCELLING}),
    GroupOrder.PAUSE: frozenset({JobState.VALIDATING, JobState.QUEUED, JobState.RUNNING}),
    GroupOrder.RESUME: frozenset({JobState.PAUSED}),
}
_WANTED = {
    GroupOrder.CANCEL: JobState.CANCELLED,
    GroupOrder.PAUSE: JobState.PAUSED,
    GroupOrder.RESUME: JobState.RUNNING,
}


def check_order(details: GroupDetails, order: GroupOrder) -> bool:
    """Whether an order changes anything; it does not where it was given before.

    Raises:
        StateConflict: the group's state forbids it.
    """
    if details.state in _OBEYED[order]:
        return False
    if details.state not in _OBEYS[order]:
        message = f"Group {details.group.id} is {details.state}; it cannot be ordered to {order}."
        raise StateConflict(message, current=details.state, wanted=_WANTED[order])
    return True


def counts_of(live: Counts, ended: Iterable[Mapping[str, int]], *, total: int) -> Counts:
    """The sums over the members; items that no member has yet are pending.

    Args:
        live: of the members that live.
        ended: as each of the others wrote them down.
        total: items of the whole input, as far as that is known.
    """
    summed = Counter({name: getattr(live, name) for name in _KINDS})
    for counts in ended:
        summed.update({name: counts[name] for name in _KINDS})
    summed["pending"] += max(0, total - summed.total())
    return Counts(total=summed.total(), **{name: summed[name] for name in _KINDS})


_KINDS = ("pending", "running", "succeeded", "failed", "cancelled", "expired")
