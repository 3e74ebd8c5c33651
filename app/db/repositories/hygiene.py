"""What may be swept. Rows stay, so that lists and ids keep their meaning; only objects go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, true, union_all

from app.db.repositories.stored_bytes import StoredBytes
from app.db.tables import events, files, groups, jobs, result_parts, upload_parts, uploads
from app.domain.states import LIVE_JOB_STATES, TERMINAL_JOB_STATES


@dataclass(frozen=True, slots=True)
class ExpiredJob:
    """A finished job whose results are past their time."""

    job_id: str
    own_input_key: str | None
    """The input it was submitted with inline; None where the client uploaded a file, which has its own time."""


class Hygiene:
    """Finds and marks what may be swept, inside one transaction."""

    def __init__(self, connection: Connection, *, grace_s: int = 0) -> None:
        """Look inside one transaction.

        Args:
            grace_s: how long what is expired or deleted stays, for whoever has begun to read it.
        """
        self._connection = connection
        self._overdue = func.now() - timedelta(seconds=grace_s)

    def expired_uploads(self, limit: int) -> list[tuple[str, str]]:
        """(id, object key) of uploads that are deleted or past their time and that no live job or group reads."""
        over = or_(files.c.deleted_at <= self._overdue, files.c.expires_at <= self._overdue)
        read = exists().where(jobs.c.input_key == files.c.object_key, jobs.c.state.in_(LIVE_JOB_STATES))
        planned = exists().where(groups.c.input_key == files.c.object_key, groups.c.closed_at.is_(None))
        query = select(files.c.id, files.c.object_key).where(
            ~files.c.swept, over, files.c.object_key.is_not(None), ~read, ~planned
        )
        return [(file_id, key) for file_id, key in self._connection.execute(query.limit(limit))]

    def mark_files_swept(self, file_ids: Sequence[str]) -> None:
        """Their objects are gone."""
        freed = self._connection.execute(
            files.update()
            .where(files.c.id.in_(file_ids), ~files.c.swept)
            .values(swept=True)
            .returning(files.c.tenant_id, files.c.size_bytes, files.c.deleted_at)
        )
        # What was deleted has been taken off its tenant's sum since then.
        self._free((row.tenant_id, row.size_bytes) for row in freed.all() if row.deleted_at is None)

    def expired_jobs(self, limit: int) -> list[ExpiredJob]:
        """Terminal jobs whose results are past their time."""
        query = select(jobs.c.id, jobs.c.input_key, jobs.c.input_file_id).where(*self._are_expired()).limit(limit)
        return [
            ExpiredJob(job_id, None if file_id else key) for job_id, key, file_id in self._connection.execute(query)
        ]

    def lock_expired_job(self, job_id: str) -> bool:
        """Lock the row of a job whose results are past their time still; False where it was retried meanwhile.

        Whoever gets the lock afterwards sees by the clock that they are.
        """
        query = select(jobs.c.id).where(jobs.c.id == job_id, *self._are_expired()).with_for_update()
        return self._connection.execute(query).one_or_none() is not None

    def part_keys(self, job_id: str) -> Sequence[str]:
        """Keys of a job's result parts, superseded ones included."""
        query = select(result_parts.c.object_key).where(result_parts.c.job_id == job_id)
        return self._connection.execute(query).scalars().all()

    def mark_job_swept(self, job_id: str) -> None:
        """Its parts are gone, and with them its output and error files."""
        swept = self._connection.execute(
            jobs.update()
            .where(jobs.c.id == job_id, ~jobs.c.results_swept)
            .values(results_swept=True)
            .returning(jobs.c.tenant_id, jobs.c.input_size_bytes, jobs.c.input_file_id)
        ).one_or_none()
        if swept is None:
            return
        n_bytes = self._connection.execute(
            select(func.coalesce(func.sum(result_parts.c.size_bytes), 0)).where(result_parts.c.job_id == job_id)
        ).scalar_one()
        own_input_bytes = 0 if swept.input_file_id is not None else swept.input_size_bytes
        self._free([(swept.tenant_id, int(n_bytes) + own_input_bytes)])
        self._connection.execute(files.update().where(files.c.job_id == job_id).values(swept=True))

    def _are_expired(self) -> tuple[ColumnElement[bool], ...]:
        return (
            ~jobs.c.results_swept,
            jobs.c.state.in_(TERMINAL_JOB_STATES),
            jobs.c.results_expire_at <= self._overdue,
        )

    def shorten(self, tenant_id: str, retention_s: int) -> None:
        """Let nothing that a tenant stores live for longer, counted from when it was made; a group ends as one.

        Rows are locked as a retry and a sweep lock them: group, job, file.
        """
        most = timedelta(seconds=retention_s)
        closed_at = select(groups.c.closed_at).where(groups.c.id == jobs.c.group_id).scalar_subquery()
        ends = (
            (groups, groups.c.results_expire_at, groups.c.closed_at, true()),
            (jobs, jobs.c.results_expire_at, func.coalesce(closed_at, jobs.c.finished_at), ~jobs.c.results_swept),
            (files, files.c.expires_at, files.c.created_at, ~files.c.swept),
        )
        for table, end, made_at, is_there in ends:
            own = (table.c.tenant_id == tenant_id, is_there, end > made_at + most)
            self._connection.execute(table.update().where(*own).values({end: made_at + most}))

    def _free(self, freed: Iterable[tuple[str, int]]) -> None:
        """Take bytes off the sums of tenants, always in the same order: two sweeps must not wait for each other."""
        by_tenant: Counter[str] = Counter()
        for tenant_id, n_bytes in freed:
            by_tenant[tenant_id] += n_bytes
        for tenant_id in sorted(by_tenant):
            StoredBytes(self._connection).add(tenant_id, -by_tenant[tenant_id])

    def delete_events(self, *, older_than_s: int, limit: int) -> int:
        """Delete up to ``limit`` events of that age whose job has ended."""
        live = exists().where(jobs.c.id == events.c.job_id, jobs.c.state.in_(LIVE_JOB_STATES))
        old = select(events.c.id).where(events.c.created_at <= func.now() - timedelta(seconds=older_than_s), ~live)
        return self._connection.execute(delete(events).where(events.c.id.in_(old.limit(limit)))).rowcount

    def cutoff(self, age_s: int) -> datetime:
        """The moment ``age_s`` seconds ago by the database's clock."""
        moment: datetime = self._connection.execute(select(func.now() - timedelta(seconds=age_s))).scalar_one()
        return moment

    def named(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that a row still stands for."""
        finds = (
            select(files.c.object_key).where(files.c.object_key.in_(keys), ~files.c.swept),
            select(jobs.c.input_key).where(jobs.c.input_key.in_(keys), _needs_input()),
            select(upload_parts.c.object_key)
            .join(uploads, uploads.c.id == upload_parts.c.upload_id)
            .where(upload_parts.c.object_key.in_(keys), ~uploads.c.parts_swept),
            select(groups.c.input_key).where(groups.c.input_key.in_(keys), groups.c.closed_at.is_(None)),
            select(result_parts.c.object_key)
            .join(jobs, jobs.c.id == result_parts.c.job_id)
            .where(result_parts.c.object_key.in_(keys), ~jobs.c.results_swept),
        )
        return set(self._connection.execute(union_all(*finds)).scalars())


def _needs_input() -> ColumnElement[bool]:
    """A live job does; a finished one until its results are swept, unless its input is an upload."""
    kept = and_(jobs.c.input_file_id.is_(None), ~jobs.c.results_swept)
    return or_(jobs.c.state.in_(LIVE_JOB_STATES), kept)
