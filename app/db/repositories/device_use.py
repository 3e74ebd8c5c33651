"""How well devices were used, counted from the chunks they ran."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, Float, and_, cast, func, select

from app.db.tables import chunks, workers
from app.domain.states import ChunkState


class DeviceUse:
    """Reads chunks of all tenants inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def idle_shares(self, *, within_s: float) -> dict[str, float]:
        """For each queue, the share of the time in which it had work and its device computed nothing.

        A queue has work from the moment a chunk is published to it until the chunk is done; chunks overlap. Chunks that
        ended within ``within_s`` are counted, whole.
        """
        begins = cast(func.extract("epoch", chunks.c.granted_at), Float)
        ends = cast(func.extract("epoch", chunks.c.finished_at), Float)
        counted_to = func.max(ends).over(
            partition_by=chunks.c.queue, order_by=(begins, ends, chunks.c.id), rows=(None, -1)
        )
        spans = (
            select(
                chunks.c.queue, chunks.c.device_s, begins.label("begins"), ends.label("ends"), counted_to.label("from")
            )
            .where(
                chunks.c.state == ChunkState.DONE,
                chunks.c.granted_at.is_not(None),
                chunks.c.finished_at > func.now() - timedelta(seconds=within_s),
            )
            .subquery()
        )
        new_s = spans.c.ends - func.greatest(spans.c.begins, spans.c["from"])
        had_work_s = func.sum(func.greatest(new_s, 0.0))
        query = select(spans.c.queue, _idle(func.sum(spans.c.device_s), had_work_s)).group_by(spans.c.queue)
        return {queue: share for queue, share in self._connection.execute(query) if share is not None}

    def busy_shares(self, *, within_s: float) -> dict[str, float]:
        """For each worker's queue, the share of the last ``within_s`` that its device computed; 0 for one that rests.

        Chunks that ended within them are counted, whole.
        """
        lately = chunks.c.finished_at > func.now() - timedelta(seconds=within_s)
        busy = func.least(1.0, func.coalesce(func.sum(chunks.c.device_s), 0.0) / within_s)
        query = (
            select(workers.c.queue, busy)
            .outerjoin(chunks, and_(chunks.c.queue == workers.c.queue, lately))
            .group_by(workers.c.queue)
        )
        return dict(tuple(row) for row in self._connection.execute(query))


def _idle(busy_s: ColumnElement[float], had_work_s: ColumnElement[float]) -> ColumnElement[float]:
    return func.greatest(0.0, 1.0 - busy_s / func.nullif(had_work_s, 0.0))
