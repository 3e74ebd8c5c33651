"""What came of all chunks there ever were, without reading them all each time.

Ended chunks never change. Those that ended before a moment are summed up once, into ``work_totals``; a reader adds only
what ended since. ``sum_up`` moves the moment on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, case, cast, func, select
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import chunks, work_totals, work_totals_until
from app.domain.states import ChunkState

CHUNK_BOUNDS_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
"""Kept in rows: change them in a migration that empties ``work_totals`` and its moment, so that all is summed anew."""
SETTLED_S = 600
"""No transaction takes so long: whatever ended longer ago is committed."""
STEP_S = 86_400
_ITEMS, _FAILURES, _DURATIONS = "items", "failures", "chunk_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A histogram: how many were at most each bound, and the sum."""

    label: str
    at_most: tuple[int, ...]
    """Cumulative, one for each bound."""
    n: int
    sum_s: float

    def plus(self, other: Distribution | None) -> Distribution:
        """Both together; they have the same label and bounds."""
        if other is None:
            return self
        return Distribution(
            label=self.label,
            at_most=tuple(mine + its for mine, its in zip(self.at_most, other.at_most, strict=True)),
            n=self.n + other.n,
            sum_s=self.sum_s + other.sum_s,
        )


class WorkHistory:
    """Sums over ended chunks, inside one transaction; who reads them asks in a ``Database.snapshot``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def items_by_outcome(self) -> dict[str, int]:
        """Items with an outcome, of all time."""
        return {label: total.n for label, total in self._all(_ITEMS).items()}

    def failures_by_code(self) -> dict[str, int]:
        """Failed items by their code, of all time."""
        return {label: total.n for label, total in self._all(_FAILURES).items()}

    def chunk_durations(self) -> list[Distribution]:
        """Seconds from claim to commit of all finished chunks, by pool, in the buckets ``CHUNK_BOUNDS_S``."""
        return list(self._all(_DURATIONS).values())

    def sum_up(self) -> bool:
        """Sum up the next day of settled chunks, at most; whether more is left."""
        until = select(work_totals_until.c.until).with_for_update()
        since = self._connection.execute(until).scalar_one() or self._first_end()
        settled: datetime = self._connection.execute(select(func.now() - timedelta(seconds=SETTLED_S))).scalar_one()
        if since is None or since >= settled:
            return False
        end = min(since + timedelta(seconds=STEP_S), settled)
        for kind in (_ITEMS, _FAILURES, _DURATIONS):
            for total in self._ended(kind, since, end).values():
                self._add(kind, total)
        self._connection.execute(work_totals_until.update().values(until=end))
        return end < settled

    def _all(self, kind: str) -> dict[str, Distribution]:
        kept = self._kept(kind)
        until = self._connection.execute(select(work_totals_until.c.until)).scalar_one()
        fresh = self._ended(kind, until, None)
        return {**fresh, **{label: total.plus(fresh.get(label)) for label, total in kept.items()}}

    def _kept(self, kind: str) -> dict[str, Distribution]:
        query = select(work_totals).where(work_totals.c.kind == kind)
        return {
            row.label: Distribution(label=row.label, at_most=tuple(row.at_most), n=row.n, sum_s=row.sum_s)
            for row in self._connection.execute(query)
        }

    def _add(self, kind: str, total: Distribution) -> None:
        kept = self._kept(kind).get(total.label)
        both = total.plus(kept)
        values = {"n": both.n, "sum_s": both.sum_s, "at_most": list(both.at_most)}
        statement = insert(work_totals).values(kind=kind, label=both.label, **values)
        self._connection.execute(statement.on_conflict_do_update(index_elements=["kind", "label"], set_=values))

    def _first_end(self) -> datetime | None:
        first: datetime | None = self._connection.execute(select(func.min(chunks.c.finished_at))).scalar_one()
        return first

    def _ended(self, kind: str, since: datetime | None, until: datetime | None) -> dict[str, Distribution]:
        """Sums over the chunks that ended from ``since`` on and before ``until``; None for no limit."""
        window: list[ColumnElement[bool]] = [chunks.c.finished_at.is_not(None)]
        window += [chunks.c.finished_at >= since] if since else []
        window += [chunks.c.finished_at < until] if until else []
        reads = {_ITEMS: self._items, _FAILURES: self._failures, _DURATIONS: self._durations}
        return {total.label: total for total in reads[kind](window)}

    def _items(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        stopped = [
            func.sum(case((chunks.c.state == state, chunks.c.n_items), else_=0)).label(state)
            for state in (ChunkState.CANCELLED, ChunkState.EXPIRED)
        ]
        query = select(
            func.sum(chunks.c.n_succeeded).label("succeeded"), func.sum(chunks.c.n_failed).label("failed"), *stopped
        ).where(*window)
        return _counts(self._connection.execute(query).mappings().one())

    def _failures(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        pair = func.jsonb_each_text(chunks.c.errors_by_code).table_valued("key", "value")
        query = (
            select(pair.c.key, func.sum(cast(pair.c.value, Float)))
            .select_from(chunks.join(pair, onclause=chunks.c.id.is_not(None)))
            .where(*window, chunks.c.state == ChunkState.DONE, chunks.c.n_failed > 0)
            .group_by(pair.c.key)
        )
        return _counts(dict(tuple(row) for row in self._connection.execute(query)))

    def _durations(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        took_s = func.extract("epoch", chunks.c.finished_at - chunks.c.claimed_at)
        pool = func.coalesce(func.split_part(chunks.c.queue, ".", 1), "unplanned").label("pool")  # that ran it
        query = (
            select(pool, *histogram(took_s, CHUNK_BOUNDS_S))
            .where(*window, chunks.c.state == ChunkState.DONE, chunks.c.claimed_at.is_not(None))
            .group_by(pool)
        )
        return [distribution(row) for row in self._connection.execute(query)]


def histogram(value: ColumnElement[Any], bounds: Sequence[float]) -> list[ColumnElement[Any]]:
    """Columns: one cumulative count for each bound, the count, the sum."""
    counts = [func.count(case((value <= bound, 1))) for bound in bounds]
    return [*counts, func.count(), cast(func.sum(value), Float)]


def distribution(row: Sequence[Any]) -> Distribution:
    """A row of a label and the columns of ``histogram``."""
    label, *at_most, n, sum_s = row
    return Distribution(label=label, at_most=tuple(at_most), n=n, sum_s=sum_s or 0.0)


def _counts(found: Mapping[Any, Any]) -> list[Distribution]:
    return [Distribution(label=str(label), at_most=(), n=int(n), sum_s=0.0) for label, n in found.items() if n]
