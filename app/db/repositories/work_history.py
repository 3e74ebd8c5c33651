"""What came of all chunks and jobs there ever were, without reading them all each time.

Ended chunks never change. Those that ended before a moment are summed up once, into ``work_totals``; a reader adds only
what ended since. ``sum_up`` moves the moment on. A job that is retried ends again, and each of its ends counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, case, cast, func, select, text
from sqlalchemy.dialects.postgresql import insert

from app.db.repositories.deadlines import BEGUN_AT, HAD_A_WINDOW, KEPT_ITS_WINDOW
from app.db.tables import chunks, jobs, work_totals, work_totals_until
from app.domain.states import ChunkState

CHUNK_BOUNDS_S = (0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
JOB_BOUNDS_S = (1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400, 604_800)
"""Both are kept in rows: change them in a migration that empties ``work_totals`` and its moment, so that all is summed
anew."""
SETTLED_S = 600
"""No transaction takes so long: whatever ended longer ago is committed."""
STEP_S = 86_400
_ITEMS, _FAILURES, _DURATIONS = "items", "failures", "chunk_seconds"
_DEVICE, _RETRIES, _INPUT, _OUTPUT = "device_seconds", "chunk_retries", "input_tokens", "output_tokens"
_JOB_RUNS, _JOB_TIMES, _WINDOWS = "job_run_seconds", "job_seconds", "job_windows"
_OF_JOBS = frozenset({_JOB_RUNS, _JOB_TIMES, _WINDOWS})
_ALL_TIME = (_ITEMS, _FAILURES, _DURATIONS, _DEVICE, _RETRIES, _INPUT, _OUTPUT, *sorted(_OF_JOBS))


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

    def at_least(self, other: Distribution | None) -> Distribution:
        """The higher of both, number by number."""
        if other is None:
            return self
        pairs = zip(self.at_most, other.at_most, strict=True)
        at_most = tuple(max(pair) for pair in pairs)
        return Distribution(
            label=self.label, at_most=at_most, n=max(self.n, other.n), sum_s=max(self.sum_s, other.sum_s)
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

    def device_seconds(self) -> dict[str, float]:
        """Seconds that devices computed, by pool."""
        return {label: total.sum_s for label, total in self._all(_DEVICE).items()}

    def chunk_retries(self) -> dict[str, int]:
        """Attempts on ended chunks beyond the first of each, by pool."""
        return {label: total.n for label, total in self._all(_RETRIES).items()}

    def tokens(self) -> dict[str, dict[str, int]]:
        """Tokens that were read (``input``) and written (``output``), by model."""
        kinds = {"input": _INPUT, "output": _OUTPUT}
        return {name: {label: total.n for label, total in self._all(kind).items()} for name, kind in kinds.items()}

    def job_runs(self) -> list[Distribution]:
        """Seconds from the first claim to the end of a job, by priority, in the buckets ``JOB_BOUNDS_S``."""
        return list(self._all(_JOB_RUNS).values())

    def job_times(self) -> list[Distribution]:
        """Seconds from acceptance, or from its retry, to the end of a job that ran, likewise."""
        return list(self._all(_JOB_TIMES).values())

    def windows(self) -> list[Distribution]:
        """Jobs that ended, labelled ``standard kept`` or ``standard missed`` and so on: did they keep their window."""
        return list(self._all(_WINDOWS).values())

    def sum_up(self) -> bool:
        """Sum up the next day of what is settled, at most; whether more is left."""
        until = select(work_totals_until.c.until).with_for_update()
        since = self._connection.execute(until).scalar_one() or self._first_end()
        settled: datetime = self._connection.execute(select(func.now() - timedelta(seconds=SETTLED_S))).scalar_one()
        if since is None or since >= settled:
            return False
        end = min(since + timedelta(seconds=STEP_S), settled)
        for kind in _ALL_TIME:
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
        firsts = [self._connection.execute(select(func.min(t.c.finished_at))).scalar_one() for t in (chunks, jobs)]
        return min((first for first in firsts if first is not None), default=None)

    def _ended(self, kind: str, since: datetime | None, until: datetime | None) -> dict[str, Distribution]:
        """Sums over what ended from ``since`` on and before ``until``; None for no limit."""
        ended_at = (jobs if kind in _OF_JOBS else chunks).c.finished_at
        window: list[ColumnElement[bool]] = [ended_at.is_not(None)]
        window += [ended_at >= since] if since else []
        window += [ended_at < until] if until else []
        reads: dict[str, Callable[[Sequence[ColumnElement[bool]]], list[Distribution]]] = {
            _ITEMS: self._items,
            _FAILURES: self._failures,
            _DURATIONS: self._durations,
            _DEVICE: self._device,
            _RETRIES: self._retries,
            _INPUT: partial(self._tokens, chunks.c.input_tokens),
            _OUTPUT: partial(self._tokens, chunks.c.output_tokens),
            _JOB_RUNS: partial(self._job_seconds, func.greatest(jobs.c.started_at, BEGUN_AT)),
            _JOB_TIMES: partial(self._job_seconds, BEGUN_AT),
            _WINDOWS: self._windows,
        }
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
        query = (
            select(_POOL, *histogram(took_s, CHUNK_BOUNDS_S))
            .where(*window, chunks.c.state == ChunkState.DONE, chunks.c.claimed_at.is_not(None))
            .group_by(_POOL)
        )
        return [distribution(row) for row in self._connection.execute(query)]

    def _device(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        query = select(_POOL, func.count(), func.sum(chunks.c.device_s)).where(*window, chunks.c.device_s > 0)
        rows = self._connection.execute(query.group_by(_POOL))
        return [Distribution(label=pool, at_most=(), n=n, sum_s=sum_s) for pool, n, sum_s in rows]

    def _retries(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        query = select(_POOL, func.sum(chunks.c.attempt - 1)).where(*window, chunks.c.attempt > 1).group_by(_POOL)
        return [Distribution(label=pool, at_most=(), n=n, sum_s=0.0) for pool, n in self._connection.execute(query)]

    def _tokens(self, tokens: ColumnElement[int], window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        query = (
            select(jobs.c.model, func.sum(tokens))
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(*window, tokens > 0, jobs.c.model.is_not(None))
            .group_by(jobs.c.model)
        )
        return _counts(dict(tuple(row) for row in self._connection.execute(query)))

    def _job_seconds(self, begin: ColumnElement[Any], window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        took_s = func.extract("epoch", jobs.c.finished_at - begin)
        query = select(jobs.c.priority, *histogram(took_s, JOB_BOUNDS_S)).where(*window, jobs.c.started_at.is_not(None))
        return [distribution(row) for row in self._connection.execute(query.group_by(jobs.c.priority))]

    def _windows(self, window: Sequence[ColumnElement[bool]]) -> list[Distribution]:
        kept = case((KEPT_ITS_WINDOW, "kept"), else_="missed")
        label = func.concat(jobs.c.priority, " ", kept).label("label")
        query = select(label, func.count()).where(*window, HAD_A_WINDOW).group_by(text("label"))
        rows = self._connection.execute(query)
        return [Distribution(label=shown, at_most=(), n=n, sum_s=0.0) for shown, n in rows]


_POOL = func.coalesce(func.split_part(chunks.c.queue, ".", 1), "unplanned").label("pool")
"""Of the worker that ran it."""


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
