"""The hard cap on a tenant's unfinished jobs."""

from __future__ import annotations

from sqlalchemy import Connection

from app.db.repositories.job_queues import JobQueues
from app.errors import QueueFull

NEAR = 64
"""So near the cap, submits take turns, so that it is never passed; no process answers as many at once."""


def check_queue(connection: Connection, *, tenant_id: str, limit: int) -> bool:
    """Refuse a job that a tenant has no room for.

    Returns:
        Whether the cap is so near that ``check_queue_in_turn`` has to decide, where the job is accepted.
    Raises:
        QueueFull: with the time until the next of the tenant's jobs ends, at the rate of the last ones.
    """
    queues = JobQueues(connection)
    n_live = queues.count_live(tenant_id, at_most=limit)
    if n_live < limit:
        return n_live >= limit - NEAR
    message = f"This tenant has {limit} unfinished jobs, the most that may wait; come back when some have ended."
    raise QueueFull(message, retry_after_s=queues.next_end_after_s(tenant_id))


def check_queue_in_turn(connection: Connection, *, tenant_id: str, limit: int) -> None:
    """Do the same, and let nobody else of the tenant pass here until this transaction has ended.

    Raises:
        QueueFull: as ``check_queue``.
    """
    JobQueues(connection).take_turns(tenant_id)
    check_queue(connection, tenant_id=tenant_id, limit=limit)
