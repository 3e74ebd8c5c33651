"""Rows of ``schedules`` and ``schedule_runs``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, Table, and_, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert

from app.db.tables import jobs, schedule_runs, schedules
from app.domain.ids import new_id
from app.domain.pages import Page, page_of
from app.domain.schedules import Schedule, ScheduleRun, ScheduleSource
from app.errors import NotFound

_FIELDS = [schedules.c[spec.name] for spec in dataclasses.fields(Schedule)]
_RUN_FIELDS = [schedule_runs.c[spec.name] for spec in dataclasses.fields(ScheduleRun)]


class Schedules:
    """Reads and changes schedules and their runs inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def now(self) -> datetime:
        """The database's clock, which is the one that counts."""
        moment: datetime = self._connection.execute(select(func.now())).scalar_one()
        return moment

    def add(self, tenant_id: str, **values: Any) -> Schedule:
        """Insert a schedule."""
        row = {"id": new_id("sched_"), "tenant_id": tenant_id, **_plain(values)}
        return _schedule(self._connection.execute(schedules.insert().values(row).returning(*_FIELDS)).mappings().one())

    def get(self, tenant_id: str, schedule_id: str) -> Schedule:
        """One schedule of a tenant.

        Raises:
            NotFound: no such schedule, another tenant's, or deleted.
        """
        query = select(*_FIELDS).where(_of(tenant_id, schedule_id))
        row = None if "\0" in schedule_id else self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(schedule_id)
        return _schedule(row)

    def list(self, tenant_id: str, *, limit: int, after: str | None = None) -> Page[Schedule]:
        """A tenant's schedules, newest first.

        Args:
            after: id of the last schedule of the page before; one that was deleted since still marks its place.
        Raises:
            NotFound: the tenant never had a schedule ``after``.
        """
        query = select(*_FIELDS).where(schedules.c.tenant_id == tenant_id, schedules.c.deleted_at.is_(None))
        place = tuple_(schedules.c.created_at, schedules.c.id)
        if after is not None:
            query = query.where(place < self._mark(schedules, tenant_id, after))
        query = query.order_by(schedules.c.created_at.desc(), schedules.c.id.desc()).limit(limit + 1)
        return page_of([_schedule(row) for row in self._connection.execute(query).mappings()], limit)

    def update(self, tenant_id: str, schedule_id: str, **values: Any) -> Schedule:
        """Change fields of a schedule.

        Raises:
            NotFound: see ``get``.
        """
        statement = schedules.update().where(_of(tenant_id, schedule_id)).values(_plain(values)).returning(*_FIELDS)
        row = None if "\0" in schedule_id else self._connection.execute(statement).mappings().one_or_none()
        if row is None:
            raise _not_found(schedule_id)
        return _schedule(row)

    def lock_due(self, limit: int) -> Sequence[Schedule]:
        """Schedules whose tick has come and that no other beat is just looking at; their rows are locked."""
        query = (
            select(*_FIELDS)
            .where(schedules.c.enabled, schedules.c.deleted_at.is_(None), schedules.c.next_tick_at <= func.now())
            .order_by(schedules.c.next_tick_at)
            .limit(limit)
            .with_for_update(skip_locked=True, key_share=True)
        )
        return [_schedule(row) for row in self._connection.execute(query).mappings()]

    def lock(self, schedule_id: str) -> Schedule | None:
        """A schedule, its row locked, so that one process at a time starts its runs; None where another does.

        The lock lets rows that refer to the schedule be inserted meanwhile: its jobs are.
        """
        query = select(*_FIELDS).where(schedules.c.id == schedule_id, schedules.c.deleted_at.is_(None))
        found = self._connection.execute(query.with_for_update(skip_locked=True, key_share=True)).mappings()
        row = found.one_or_none()
        return None if row is None else _schedule(row)

    def add_run(self, schedule: Schedule, *, tick_at: datetime | None) -> ScheduleRun | None:
        """Open a run; None where its tick has one already."""
        values = {"id": new_id("schedrun_"), "tenant_id": schedule.tenant_id, "schedule_id": schedule.id}
        statement = insert(schedule_runs).values(**values, tick_at=tick_at)
        statement = statement.on_conflict_do_nothing(index_elements=["schedule_id", "tick_at"])
        row = self._connection.execute(statement.returning(*_RUN_FIELDS)).mappings().one_or_none()
        return None if row is None else _run(row)

    def open_runs(self, limit: int) -> Sequence[ScheduleRun]:
        """Runs whose jobs were not made yet, oldest first."""
        query = select(*_RUN_FIELDS).where(_is_open()).order_by(schedule_runs.c.created_at).limit(limit)
        return [_run(row) for row in self._connection.execute(query).mappings()]

    def get_run(self, tenant_id: str, run_id: str) -> ScheduleRun:
        """One run of a tenant."""
        query = select(*_RUN_FIELDS).where(schedule_runs.c.id == run_id, schedule_runs.c.tenant_id == tenant_id)
        return _run(self._connection.execute(query).mappings().one())

    def close_run(self, run_id: str, *, job_ids: Sequence[str], problem: str | None) -> None:
        """Record what a run made; a run that was closed meanwhile stays as it is."""
        statement = schedule_runs.update().where(schedule_runs.c.id == run_id, _is_open())
        self._connection.execute(statement.values(job_ids=list(job_ids), problem=problem))

    def close_runs_of(self, schedule_id: str, *, problem: str) -> None:
        """Close the open runs of a schedule."""
        statement = schedule_runs.update().where(schedule_runs.c.schedule_id == schedule_id, _is_open())
        self._connection.execute(statement.values(problem=problem))

    def runs(self, tenant_id: str, schedule_id: str, *, limit: int, after: str | None = None) -> Sequence[ScheduleRun]:
        """A schedule's runs, newest first, behind the run ``after``.

        Raises:
            NotFound: there is no run ``after``.
        """
        query = select(*_RUN_FIELDS).where(
            schedule_runs.c.tenant_id == tenant_id, schedule_runs.c.schedule_id == schedule_id
        )
        place = tuple_(schedule_runs.c.created_at, schedule_runs.c.id)
        if after is not None:
            query = query.where(place < self._mark(schedule_runs, tenant_id, after))
        query = query.order_by(schedule_runs.c.created_at.desc(), schedule_runs.c.id.desc()).limit(limit)
        return [_run(row) for row in self._connection.execute(query).mappings()]

    def unrecorded_job(self, run: ScheduleRun, file_id: str) -> str | None:
        """A job this run made of a file without living to record it."""
        query = select(jobs.c.id).where(
            jobs.c.schedule_id == run.schedule_id,
            jobs.c.tenant_id == run.tenant_id,
            jobs.c.input_file_id == file_id,
            jobs.c.created_at >= run.created_at,
            jobs.c.id.not_in(_recorded_jobs(run.schedule_id)),
        )
        return self._connection.execute(query.order_by(jobs.c.created_at).limit(1)).scalar_one_or_none()

    def taken(self, schedule_id: str, file_ids: Sequence[str]) -> set[str]:
        """Those of the files that a run of this schedule has a job for."""
        query = select(jobs.c.input_file_id).where(
            jobs.c.schedule_id == schedule_id,
            jobs.c.input_file_id.in_(file_ids),
            jobs.c.id.in_(_recorded_jobs(schedule_id)),
        )
        return set(self._connection.execute(query).scalars())

    def _mark(self, table: Table, tenant_id: str, after: str) -> tuple[Any, ...]:
        """The place of a row in its list, whether or not it was deleted since."""
        query = select(table.c.created_at, table.c.id).where(table.c.tenant_id == tenant_id, table.c.id == after)
        row = None if "\0" in after else self._connection.execute(query).one_or_none()
        if row is None:
            raise NotFound(f"There is nothing {after[:80]!r} to continue behind.", param="after")
        return tuple(row)


def _recorded_jobs(schedule_id: str) -> Select[Any]:
    return select(func.jsonb_array_elements_text(schedule_runs.c.job_ids)).where(
        schedule_runs.c.schedule_id == schedule_id
    )


def _of(tenant_id: str, schedule_id: str) -> ColumnElement[bool]:
    return and_(schedules.c.tenant_id == tenant_id, schedules.c.id == schedule_id, schedules.c.deleted_at.is_(None))


def _is_open() -> ColumnElement[bool]:
    return and_(schedule_runs.c.job_ids == [], schedule_runs.c.problem.is_(None))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    source = values.get("source")
    if isinstance(source, ScheduleSource):
        found = dataclasses.asdict(source)
        values = {**values, "source": {name: value for name, value in found.items() if value is not None}}
    return values


def _schedule(row: RowMapping) -> Schedule:
    return Schedule(**{**row, "source": ScheduleSource(**row["source"])})


def _run(row: RowMapping) -> ScheduleRun:
    return ScheduleRun(**{**row, "job_ids": tuple(row["job_ids"])})


def _not_found(schedule_id: str) -> NotFound:
    return NotFound(f"There is no schedule {schedule_id[:80]!r}.", param="id")
