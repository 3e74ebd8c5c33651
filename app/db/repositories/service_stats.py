"""What ``/v1/stats`` and the metrics say of all tenants together. No query reads further back than its window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Float, cast, func, null, select, true, union_all

from app.db.repositories.deadlines import BEGUN_AT, HAD_A_WINDOW, KEPT_ITS_WINDOW
from app.db.tables import chunks, jobs
from app.domain.states import LIVE_JOB_STATES, RUNNABLE_JOB_STATES, WAITING_CHUNK_STATES, JobState
from app.domain.stats import Percentiles, QueueStats, ServedStats

_SHARES = (0.5, 0.95, 0.99)


class ServiceStatsRows:
    """Counts over all tenants, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def queues(self) -> list[QueueStats]:
        """What waits: in each pool, and under no pool the jobs whose input is not yet checked."""
        planned = (
            select(
                jobs.c.pool,
                jobs.c.priority,
                func.count(jobs.c.id.distinct()).label("n_jobs"),
                func.count().label("n_chunks"),
                func.sum(chunks.c.n_items).label("n_items"),
                _seconds(func.now() - func.min(jobs.c.created_at)).label("oldest_age_s"),
            )
            .join(chunks, chunks.c.job_id == jobs.c.id)
            .where(
                jobs.c.pool.is_not(None),
                jobs.c.state.in_(RUNNABLE_JOB_STATES),
                chunks.c.state.in_(WAITING_CHUNK_STATES),
            )
            .group_by(jobs.c.pool, jobs.c.priority)
        )
        unplanned = (
            select(
                null().label("pool"),
                jobs.c.priority,
                func.count().label("n_jobs"),
                cast(0, Float).label("n_chunks"),
                func.coalesce(func.sum(jobs.c.n_items), 0).label("n_items"),
                _seconds(func.now() - func.min(jobs.c.created_at)).label("oldest_age_s"),
            )
            .where(jobs.c.state == JobState.VALIDATING)
            .group_by(jobs.c.priority)
        )
        rows = [row for query in (planned, unplanned) for row in self._connection.execute(query).mappings()]
        return [QueueStats(**{**row, "n_chunks": int(row["n_chunks"]), "n_items": int(row["n_items"])}) for row in rows]

    def served(self, *, window_s: int) -> list[ServedStats]:
        """How it went with the jobs that ended within the window, by class, and with all of them together."""
        seen = self._seen(window_s)
        query = select(
            seen.c.priority,
            func.count().filter(seen.c.counts).label("n_ended"),
            func.count().filter(seen.c.is_in_window).label("n_in_window"),
            _percentiles(seen.c.wait_s).label("wait"),
            _percentiles(seen.c.took_s).label("took"),
        ).group_by(func.rollup(seen.c.priority))
        return [
            ServedStats(
                priority=row.priority,
                n_ended=row.n_ended,
                n_in_window=row.n_in_window,
                wait=Percentiles(*(row.wait or (None,) * len(_SHARES))),
                time_to_complete=Percentiles(*(row.took or (None,) * len(_SHARES))),
            )
            for row in self._connection.execute(query)
        ]

    def _seen(self, window_s: int) -> Any:
        """One row for each job that counts: those that ended within the window, and those that run now."""
        wait_s = _seconds(jobs.c.started_at - jobs.c.created_at)
        ended = select(
            jobs.c.priority,
            wait_s.label("wait_s"),
            _seconds(jobs.c.finished_at - BEGUN_AT).label("took_s"),
            HAD_A_WINDOW.label("counts"),
            KEPT_ITS_WINDOW.label("is_in_window"),
        ).where(jobs.c.finished_at > func.now() - timedelta(seconds=window_s))
        running = select(
            jobs.c.priority, wait_s.label("wait_s"), cast(null(), Float).label("took_s"), ~true(), ~true()
        ).where(jobs.c.state.in_(LIVE_JOB_STATES), jobs.c.started_at.is_not(None))
        return union_all(ended, running).subquery()


def _percentiles(value: ColumnElement[Any]) -> ColumnElement[Sequence[float]]:
    return func.percentile_cont(list(_SHARES)).within_group(value)


def _seconds(interval: ColumnElement[Any]) -> ColumnElement[float]:
    return cast(func.extract("epoch", interval), Float)
