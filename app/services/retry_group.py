"""Retry a group: what did not succeed runs again in its jobs, one after another."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta

from sqlalchemy import Connection, func

from app.db.notify import notify
from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.db.repositories.retries import Retries
from app.domain.groups import Group, GroupDetails, GroupOrder
from app.domain.retry_plan import RETRIED_OUTCOMES
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.domain.windows import window_seconds
from app.errors import Gone, NothingToRetry, StateConflict
from app.services.answer_once import Once, unless_a_twin_won
from app.services.group_details import group_details
from app.services.queue_room import check_queue_in_turn
from app.services.submit_job import check_room
from app.wiring import Wiring


def retry_group(
    *,
    wiring: Wiring,
    tenant_id: str,
    group_id: str,
    include: Collection[str] = RETRIED_OUTCOMES,
    once: Once[GroupDetails] | None = None,
) -> GroupDetails:
    """Let the items of an ended group that ended so run again; once this returns, it is durable.

    One row is written, whatever the size of the group; who leads it retries the members.

    Args:
        include: outcomes out of ``RETRIED_OUTCOMES``.
    Raises:
        NotFound: no such group, or another tenant's.
        StateConflict: it has not ended.
        NothingToRetry: none of its items ended so.
        Gone: its input or its results were deleted or are past their life.
        QueueFull: the tenant has too many unfinished jobs.
        StorageQuotaExceeded: the tenant has no room for results.
    """
    in_turn = check_room(wiring, tenant_id)
    with unless_a_twin_won(once), wiring.database.begin() as connection:
        if in_turn:
            check_queue_in_turn(connection, tenant_id=tenant_id, limit=wiring.settings.max_queued_jobs)
        groups = Groups(connection)
        groups.get(tenant_id, group_id)
        details = group_details(connection, groups.lock(group_id), wiring.models)
        _refuse_unless_retryable(details, include)
        _refuse_if_gone(connection, details)
        details = group_details(connection, _order(connection, details, include), wiring.models)
        if once is not None:
            once.keep(connection, details)
        notify(connection)
        return details


def _order(connection: Connection, details: GroupDetails, include: Collection[str]) -> Group:
    groups, group = Groups(connection), details.group
    groups.reopen(group.id)
    return groups.update(
        group.id,
        order_kind=GroupOrder.RETRY,
        order_seq=group.order_seq + 1,
        order_data={"include": sorted(include)},
        deadline_at=func.now() + timedelta(seconds=window_seconds(group.member["completion_window"])),
    )


def _refuse_unless_retryable(details: GroupDetails, include: Collection[str]) -> None:
    group_id, state = details.group.id, details.state
    if state not in TERMINAL_JOB_STATES:
        message = f"Group {group_id} is {state}; only a group that has ended can be retried."
        raise StateConflict(message, current=state, wanted=JobState.QUEUED)
    if details.group.failure is not None and not details.members:
        message = f"The input of group {group_id} was refused: mend it and submit it anew."
        raise NothingToRetry(message, current=state, wanted=JobState.QUEUED)
    if not any(getattr(details.counts, outcome) for outcome in include):
        wanted = " or ".join(outcome for outcome in RETRIED_OUTCOMES if outcome in include)
        raise NothingToRetry(f"Group {group_id} has no item that is {wanted}.", current=state, wanted=JobState.QUEUED)


def _refuse_if_gone(connection: Connection, details: GroupDetails) -> None:
    """All members share one input and one end of their results, so the first stands for all."""
    group_id, retries = details.group.id, Retries(connection)
    first = Jobs(connection).get_any(details.members[0].id)
    if not retries.are_results_there(first):
        raise Gone(f"The results of group {group_id} are past their life; submit its input anew.")
    if not retries.is_input_there(first):
        message = f"The input file of group {group_id} was deleted or has expired; upload it anew."
        raise Gone(message, param="input_file_id")
