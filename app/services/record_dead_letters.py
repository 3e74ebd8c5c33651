"""Read what ended in the dead-letter queue and explain it in Postgres."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog

from app.broker.dead_letters import drain_dead_letters
from app.db.repositories.dead_letters import DeadLetters
from app.domain.dead_letters import EXPIRED, read_dead_letter
from app.wiring import Wiring

log = structlog.get_logger(__name__)
AT_ONCE = 500


def record_dead_letters(*, wiring: Wiring) -> int:
    """Record every waiting dead letter; returns how many.

    The work itself needs nothing from here: the dispatcher finds what was not done by its rows. A letter whose
    acknowledgement was lost comes again and is recorded once.

    Raises:
        BrokerUnavailable, DatabaseUnavailable: the rest stays in the queue for the next time.
    """
    if wiring.settings.broker_is_redis:
        return 0
    return drain_dead_letters(wiring.settings, lambda headers: record_dead_letter(wiring, headers), at_most=AT_ONCE)


def record_dead_letter(wiring: Wiring, headers: Mapping[str, Any]) -> None:
    """Record one, unless it was sent to be thrown away late: a tick of beat from while no worker was there."""
    letter = read_dead_letter(headers)
    if letter.reason == EXPIRED:
        return
    with wiring.database.begin() as connection:
        is_new = DeadLetters(connection).add(letter)
    if is_new:
        log.error("dead_letter", queue=letter.queue, reason=letter.reason, task=letter.task, **letter.message)
