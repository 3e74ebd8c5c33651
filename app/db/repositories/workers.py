"""The workers that are alive, and how fast models run on them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, case, exists, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement

from app.db.tables import chunks, drains, model_rates, workers
from app.domain.states import ChunkState

SMOOTHING = 0.3
"""Weight of the newest chunk in a measured rate."""


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker that takes work, or that reports itself."""

    queue: str
    pool: str
    host: str
    incarnation: str
    warm_models: tuple[str, ...]
    unloadable_models: tuple[str, ...] = ()


def _heard(silence_s: float) -> ColumnElement[bool]:
    return workers.c.seen_at > func.now() - timedelta(seconds=silence_s)


class Workers:
    """The registry of workers inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def report(self, worker: LiveWorker, *, silence_s: float) -> bool:
        """Write down that a worker lives; a new incarnation on its queue replaces the old.

        Returns:
            False, and nothing is written, where another host's worker on that queue was heard within ``silence_s``.
        """
        values = {
            "pool": worker.pool,
            "host": worker.host,
            "incarnation": worker.incarnation,
            "warm_models": list(worker.warm_models),
            "unloadable_models": list(worker.unloadable_models),
            "seen_at": func.now(),
        }
        is_new = workers.c.incarnation != worker.incarnation
        of_incarnation = {
            "started_at": case((is_new, func.now()), else_=workers.c.started_at),
            "stuck_since": case((is_new, None), else_=workers.c.stuck_since),
        }
        statement = insert(workers).values(queue=worker.queue, **values)
        statement = statement.on_conflict_do_update(
            index_elements=["queue"],
            set_={**values, **of_incarnation},
            where=or_(workers.c.host == worker.host, ~_heard(silence_s)),
        )
        return self._connection.execute(statement).rowcount == 1

    def on_other_host(self, queue: str, *, host: str, silence_s: float) -> tuple[str, datetime] | None:
        """Another host whose worker serves a queue and was heard within ``silence_s``, and when that was."""
        query = select(workers.c.host, workers.c.seen_at).where(
            workers.c.queue == queue, workers.c.host != host, _heard(silence_s)
        )
        row = self._connection.execute(query).one_or_none()
        return None if row is None else (row.host, row.seen_at)

    def live(self, *, silence_s: float) -> list[LiveWorker]:
        """Workers that take work: heard from within ``silence_s``, not drained and not stuck."""
        query = (
            select(workers)
            .outerjoin(drains, drains.c.queue == workers.c.queue)
            .where(_heard(silence_s), workers.c.stuck_since.is_(None), drains.c.queue.is_(None))
            .order_by(workers.c.queue)
        )
        return [
            LiveWorker(
                queue=row.queue,
                pool=row.pool,
                host=row.host,
                incarnation=row.incarnation,
                warm_models=tuple(row.warm_models),
                unloadable_models=tuple(row.unloadable_models),
            )
            for row in self._connection.execute(query)
        ]

    def is_drained(self, queue: str) -> bool:
        """Whether the worker of a queue was told to take nothing more."""
        return self._connection.execute(select(exists().where(drains.c.queue == queue))).scalar_one()

    def mark_stuck(self, *, patience_s: float) -> list[str]:
        """Find workers that are heard and take nothing: published chunks lie there, and nothing has run for a while.

        Returns:
            The queues of those that were not known to be stuck.
        """
        since = func.now() - timedelta(seconds=patience_s)
        on_queue = chunks.c.queue == workers.c.queue
        waits = exists().where(on_queue, chunks.c.state == ChunkState.GRANTED, chunks.c.granted_at < since)
        runs = exists().where(on_queue, chunks.c.state == ChunkState.RUNNING)
        idle = select(workers.c.queue).where(
            workers.c.stuck_since.is_(None), workers.c.started_at < since, waits, ~runs
        )
        # Chunks that ended are many and have no index by queue: they are looked at for the few that seem idle.
        return [queue for queue in self._connection.execute(idle).scalars().all() if self._stuck(queue, since)]

    def _stuck(self, queue: str, since: ColumnElement[datetime]) -> bool:
        ran = select(exists().where(chunks.c.queue == queue, chunks.c.finished_at > since))
        if self._connection.execute(ran).scalar_one():
            return False
        self._connection.execute(workers.update().where(workers.c.queue == queue).values(stuck_since=func.now()))
        return True

    def took_message(self, queue: str) -> None:
        """A worker took a message: whatever came of it, it is not stuck."""
        was_stuck = (workers.c.queue == queue, workers.c.stuck_since.is_not(None))
        self._connection.execute(workers.update().where(*was_stuck).values(stuck_since=None))

    def leave(self, *, queue: str, incarnation: str) -> None:
        """Write down that a worker stopped in good order."""
        gone = workers.delete().where(workers.c.queue == queue, workers.c.incarnation == incarnation)
        self._connection.execute(gone)

    def rate(self, *, model: str, version: str, pool: str) -> float | None:
        """Measured tokens per device second, where anything was measured."""
        query = select(model_rates.c.tokens_per_s).where(
            model_rates.c.model == model, model_rates.c.version == version, model_rates.c.pool == pool
        )
        return self._connection.execute(query).scalar_one_or_none()

    def rates(self) -> dict[tuple[str, str, str], float]:
        """Every measured rate in tokens per device second, by model, version and pool."""
        query = select(model_rates.c.model, model_rates.c.version, model_rates.c.pool, model_rates.c.tokens_per_s)
        return {(model, version, pool): rate for model, version, pool, rate in self._connection.execute(query)}

    def learn_rate(self, *, model: str, version: str, pool: str, tokens_per_s: float, is_telling: bool) -> None:
        """Move a measured rate towards what the newest chunk showed.

        A chunk that is not telling, because overheads outweigh it, can show that the rate is higher than known but
        not that it is lower. Without the one, a single cold start would make every later chunk small; without the
        other, small chunks could never unlearn it.
        """
        smoothed = model_rates.c.tokens_per_s * (1 - SMOOTHING) + tokens_per_s * SMOOTHING
        if not is_telling:
            known = (
                model_rates.c.model == model,
                model_rates.c.version == version,
                model_rates.c.pool == pool,
                model_rates.c.tokens_per_s < tokens_per_s,
            )
            raised = model_rates.update().where(*known).values(tokens_per_s=smoothed, updated_at=func.now())
            self._connection.execute(raised)
            return
        statement = insert(model_rates).values(model=model, version=version, pool=pool, tokens_per_s=tokens_per_s)
        statement = statement.on_conflict_do_update(
            index_elements=["model", "version", "pool"], set_={"tokens_per_s": smoothed, "updated_at": func.now()}
        )
        self._connection.execute(statement)
