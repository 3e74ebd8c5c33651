"""Checks of the work itself: workers, stuck jobs, dead letters."""

from __future__ import annotations

from sqlalchemy import Connection, Table, and_, exists, func, not_, select
from sqlalchemy.sql import ColumnElement

from app.db.session import Database
from app.db.tables import chunks, dead_letters, jobs, workers
from app.domain.states import LIVE_CHUNK_STATES, LIVE_JOB_STATES, ChunkState, JobState
from app.installation.checks import Check, failed, ok, warning
from config.settings import Settings

# The dispatcher mends each of these within seconds; one that is a minute old means that it does not run.
OVERDUE_S = 60
DEAD_LETTER_DAYS = 7


def check_workers(database: Database, settings: Settings) -> Check:
    """A live worker stands behind every pinned queue."""
    fresh = workers.c.seen_at > func.now() - _seconds(settings.worker_silence_s)
    with database.begin() as connection:
        alive = set(connection.execute(select(workers.c.queue).where(fresh)).scalars())
    if silent := [queue for queue in settings.queues if queue not in alive]:
        advice = "start `python -m workers.gpu --queue NAME`; its log says why it ended"
        return failed("workers", f"no live worker on {', '.join(silent)}", advice=advice)
    return ok("workers", ", ".join(sorted(alive)))


def check_stuck_work(database: Database) -> Check:
    """No job outlives its deadline or its last chunk, and no chunk its lease."""
    with database.begin() as connection:
        found = stuck_work(connection)
    stuck = ", ".join(f"{n} {what}" for what, n in found.items() if n)
    if stuck:
        return failed("stuck work", stuck, advice="the dispatcher mends these: see that it runs, and its log")
    return ok("stuck work", "none")


def stuck_work(connection: Connection) -> dict[str, int]:
    """How much there is of each kind of work that stays where it should not."""
    return {
        "jobs past their deadline": _count(connection, jobs, _past_deadline()),
        "chunks past their lease": _count(connection, chunks, _past_lease()),
        "jobs finished but not finalised": _count(connection, jobs, _unfinalised()),
    }


def check_dead_letters(database: Database, *, n_waiting: int) -> Check:
    """No message ended in the dead-letter queue lately."""
    recent = dead_letters.c.created_at > func.now() - _seconds(DEAD_LETTER_DAYS * 86_400)
    with database.begin() as connection:
        n_recorded = _count(connection, dead_letters, recent)
    if not n_recorded and not n_waiting:
        return ok("dead letters", f"none in {DEAD_LETTER_DAYS} days")
    advice = "read the table dead_letters: a task that kills its worker again and again ends there"
    found = f"{n_recorded} in {DEAD_LETTER_DAYS} days, {n_waiting} not yet read"
    return warning("dead letters", found, advice=advice)


def _past_deadline() -> ColumnElement[bool]:
    return and_(jobs.c.state.in_(LIVE_JOB_STATES), jobs.c.deadline_at < func.now() - _seconds(OVERDUE_S))


def _past_lease() -> ColumnElement[bool]:
    return and_(chunks.c.state == ChunkState.RUNNING, chunks.c.lease_until < func.now() - _seconds(OVERDUE_S))


def _unfinalised() -> ColumnElement[bool]:
    """Every chunk ended a while ago, and the job did not."""
    of_job = chunks.c.job_id == jobs.c.id
    late = chunks.c.finished_at > func.now() - _seconds(OVERDUE_S)
    planned = and_(jobs.c.state.in_((JobState.QUEUED, JobState.RUNNING, JobState.FINALIZING, JobState.CANCELLING)))
    live = exists().where(of_job, chunks.c.state.in_(LIVE_CHUNK_STATES))
    return and_(planned, not_(live), exists().where(of_job), not_(exists().where(of_job, late)))


def _count(connection: Connection, table: Table, condition: ColumnElement[bool]) -> int:
    return connection.execute(select(func.count()).select_from(table).where(condition)).scalar_one()


def _seconds(n: float) -> ColumnElement[object]:
    return func.make_interval(0, 0, 0, 0, 0, 0, n)
