"""The events that listeners are told, read for many of them at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import BigInteger, Connection, Integer, Text, column, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.tables import events
from app.domain.live_events import TOLD_KINDS, EventRow

_FIELDS = [events.c[spec.name] for spec in dataclasses.fields(EventRow)]


class LiveEvents:
    """Reads events inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last_id(self, job_id: str) -> int:
        """The id of the last event of a job that is told; 0 where there is none, or none any more."""
        query = select(func.coalesce(func.max(events.c.id), 0)).where(
            events.c.job_id == job_id, events.c.kind.in_(TOLD_KINDS)
        )
        last: int = self._connection.execute(query).scalar_one()
        return last

    def behind(self, marks: Sequence[tuple[str, int]], *, limit: int) -> list[list[EventRow]]:
        """For each pair of a job and an event, up to ``limit`` events of the job behind that one, in their order."""
        asked = (
            func.unnest(
                literal(list(range(len(marks))), ARRAY(Integer)),
                literal([job_id for job_id, _ in marks], ARRAY(Text)),
                literal([after for _, after in marks], ARRAY(BigInteger)),
            )
            .table_valued(column("place", Integer), column("job_id", Text), column("after", BigInteger))
            .render_derived()
        )
        following = (
            select(*_FIELDS)
            .where(events.c.job_id == asked.c.job_id, events.c.id > asked.c.after, events.c.kind.in_(TOLD_KINDS))
            .order_by(events.c.id)
            .limit(limit)
            .lateral()
        )
        query = select(asked.c.place, following).select_from(asked.join(following, true()))
        found: list[list[EventRow]] = [[] for _ in marks]
        for row in self._connection.execute(query.order_by(asked.c.place, following.c.id)).mappings():
            found[row["place"]].append(EventRow(**{name.name: row[name.name] for name in dataclasses.fields(EventRow)}))
        return found
