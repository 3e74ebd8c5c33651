"""A message that could not be delivered, as it is explained to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EXPIRED = "expired"
"""The reason of a message that outlived the life its sender gave it: what was asked for, and no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What is known of a message that ended in the dead-letter queue."""

    queue: str
    """The queue it died in."""
    reason: str
    """The broker's word: ``delivery_limit``, ``rejected``, ``expired`` or ``maxlen``."""
    task: str | None
    message: dict[str, Any]
    """``id``, ``args`` (ids only, as every message of ours), ``died_at`` and ``count``."""


def read_dead_letter(headers: Mapping[str, Any]) -> DeadLetter:
    """What the headers of a dead message say: Celery's own and RabbitMQ's ``x-death``, newest first."""
    deaths = headers.get("x-death") or [{}]
    death = deaths[0]
    message = {
        "id": headers.get("id"),
        "args": headers.get("argsrepr"),
        "died_at": str(death.get("time", "")),
        "count": death.get("count"),
    }
    return DeadLetter(
        queue=str(death.get("queue", "unknown")),
        reason=str(death.get("reason", "unknown")),
        task=headers.get("task"),
        message=message,
    )
