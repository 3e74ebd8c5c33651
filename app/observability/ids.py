"""The ids that log lines carry, for whatever else tells of the same moment."""

from __future__ import annotations

import structlog

IDS = ("request_id", "tenant_id", "job_id", "group_id", "chunk_id", "attempt", "queue", "schedule_id", "delivery_id")


def bound_ids() -> dict[str, str]:
    """Those that are bound right now; nothing else that is bound, for that may be a client's text."""
    bound = structlog.contextvars.get_contextvars()
    return {name: str(bound[name]) for name in IDS if name in bound}
