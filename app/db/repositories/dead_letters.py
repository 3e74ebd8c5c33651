"""Rows of ``dead_letters``: messages the broker gave up on, and why."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection, select

from app.db.tables import dead_letters
from app.domain.dead_letters import DeadLetter


class DeadLetters:
    """Records dead letters inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, letter: DeadLetter) -> bool:
        """Record a letter; False where that very death was recorded before."""
        known = select(dead_letters.c.id).where(
            dead_letters.c.queue == letter.queue,
            dead_letters.c.reason == letter.reason,
            dead_letters.c.message == letter.message,
        )
        if self._connection.execute(known.limit(1)).one_or_none() is not None:
            return False
        self._connection.execute(dead_letters.insert().values(**dataclasses.asdict(letter)))
        return True
