"""Jobs: their rows, and the only way their state changes."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement, Select

from app.db.repositories.events import Events
from app.db.repositories.stored_bytes import StoredBytes
from app.db.repositories.webhook_outbox import WebhookOutbox
from app.db.tables import jobs
from app.domain.jobs import Dialect, Job, JobWebhook, OnDeadline, OnOversize, Priority
from app.domain.states import LIVE_JOB_STATES, RUNNABLE_JOB_STATES, JobState, check_job
from app.errors import NotFound

_FIELDS = [jobs.c[name.name] for name in dataclasses.fields(Job)]
_ENUMS = {
    "dialect": Dialect,
    "state": JobState,
    "priority": Priority,
    "on_deadline": OnDeadline,
    "on_oversize": OnOversize,
}

_listed_at = tuple_(jobs.c.created_at, jobs.c.id)

# A job that was cancelled before it was planned is planned all the same, so that each of its items gets its line; a
# paused one too, so that it is refused early if it must be, and goes on at once when it is resumed. One that is queued
# without ever having been is to be retried.
_IS_UNPLANNED = or_(
    jobs.c.state == JobState.VALIDATING,
    and_(jobs.c.state.in_([JobState.CANCELLING, JobState.PAUSED, JobState.QUEUED]), jobs.c.queued_at.is_(None)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters:
    """What a list of jobs may be narrowed by; None means all."""

    state: JobState | None = None
    endpoint: str | None = None
    model: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    dialect: Dialect | None = None
    group_id: str | None = None
    """Only members of this group; where it is None, only jobs that belong to none."""


class Jobs:
    """Reads and changes jobs inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, *, completion_window_s: int, values: dict[str, Any]) -> Job:
        """Add a job; its deadline is counted from the database's clock."""
        return self._insert({"deadline_at": _from_now(completion_window_s), **values})

    def insert_member(self, *, deadline_at: datetime, values: dict[str, Any]) -> Job:
        """Add a job of a group, with the group's deadline."""
        return self._insert({"deadline_at": deadline_at, **values})

    def get(self, tenant_id: str, job_id: str, *, param: str = "id") -> Job:
        """One job of a tenant.

        Raises:
            NotFound: no such job, another tenant's, or deleted; ``param`` is where its id came from.
        """
        own = (jobs.c.id == job_id, jobs.c.tenant_id == tenant_id, jobs.c.deleted_at.is_(None))
        return self._one(select(*_FIELDS).where(*own), job_id, param=param)

    def get_any(self, job_id: str) -> Job:
        """One job whoever owns it; for processes that act on ids from our own messages."""
        return self._one(select(*_FIELDS).where(jobs.c.id == job_id), job_id)

    def several(self, job_ids: Sequence[str]) -> dict[str, Job]:
        """Jobs by their ids, whoever owns them; for callers that have asked before whose they are."""
        query = select(*_FIELDS).where(jobs.c.id.in_(job_ids))
        return {row["id"]: _job(row) for row in self._connection.execute(query).mappings()}

    def lock(self, job_id: str) -> Job:
        """One job, its row locked until the end of the transaction. Lock a job before its chunks."""
        return self._one(select(*_FIELDS).where(jobs.c.id == job_id).with_for_update(key_share=True), job_id)

    def list(self, tenant_id: str, *, limit: int, after: str | None, filters: JobFilters) -> list[Job]:
        """A tenant's jobs, newest first, behind the job ``after``; one that was deleted since still marks its place.

        Raises:
            NotFound: the tenant never had a job ``after``.
        """
        query = self._listed(tenant_id, filters)
        if after is not None:
            query = query.where(_listed_at < self._place(tenant_id, after, param="after"))
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        return [_job(row) for row in self._connection.execute(query).mappings()]

    def list_before(self, tenant_id: str, *, limit: int, before: str, filters: JobFilters) -> builtins.list[Job]:
        """Those of a tenant's jobs that the list shows right before ``before``, nearest first.

        Raises:
            NotFound: the tenant never had a job ``before``.
        """
        query = self._listed(tenant_id, filters).where(_listed_at > self._place(tenant_id, before, param="before"))
        query = query.order_by(jobs.c.created_at, jobs.c.id).limit(limit)
        return [_job(row) for row in self._connection.execute(query).mappings()]

    def change_state(
        self, job: Job, wanted: JobState, *, reason: dict[str, Any] | None = None, **values: Any
    ) -> Job | None:
        """Move a job from the state it was read in; write the event, and what webhooks are to tell of it.

        Returns:
            The job as it is now, or None where it had left that state meanwhile.
        Raises:
            StateConflict: the table does not hold this change.
        """
        check_job(job.state, wanted)
        if wanted not in RUNNABLE_JOB_STATES:
            values.setdefault("admitted_at", None)
        statement = (
            jobs.update()
            .where(jobs.c.id == job.id, jobs.c.state == job.state)
            .values(state=wanted, **values)
            .returning(*_FIELDS)
        )
        row = self._connection.execute(statement).mappings().one_or_none()
        if row is None:
            return None
        data = {"from": job.state, "to": wanted, **(reason or {})}
        Events(self._connection).append(job.tenant_id, job.id, "state", data=data)
        changed = _job(row)
        WebhookOutbox(self._connection).tell_state(changed)
        return changed

    def update(self, job_id: str, **values: Any) -> None:
        """Change columns other than the state."""
        self._connection.execute(jobs.update().where(jobs.c.id == job_id).values(**values))

    def refuse(self, job: Job, reason: str) -> None:
        """Let what has not run of a job be failed without being run, and write the event."""
        self.update(job.id, refusal=reason)
        Events(self._connection).append(job.tenant_id, job.id, "stop", data={"reason": "refused", "message": reason})

    def next_part_seq(self, job_id: str, n_parts: int) -> int:
        """Reserve places at the end of the result stream; returns the first. Locks the job's row."""
        statement = (
            jobs.update()
            .where(jobs.c.id == job_id)
            .values(last_part_seq=jobs.c.last_part_seq + n_parts)
            .returning(jobs.c.last_part_seq)
        )
        last: int = self._connection.execute(statement).scalar_one()
        return last - n_parts + 1

    def claim_preparation(self, job_id: str, *, token: str, lease_s: float) -> tuple[Job, int] | None:
        """Take the right to validate and plan a job.

        Returns:
            The job and how many tries there were, this one counted; None where it needs none or another has it.
        """
        statement = (
            jobs.update()
            .where(
                jobs.c.id == job_id,
                _IS_UNPLANNED,
                or_(jobs.c.prepare_until.is_(None), jobs.c.prepare_until < func.now()),
            )
            .values(prepare_token=token, prepare_until=_from_now(lease_s), prepare_attempts=jobs.c.prepare_attempts + 1)
            .returning(*_FIELDS, jobs.c.prepare_attempts)
        )
        row = self._connection.execute(statement).mappings().one_or_none()
        return None if row is None else (_job(row), row["prepare_attempts"])

    def renew_preparation(self, job_id: str, *, token: str, lease_s: float) -> bool:
        """Keep the right to plan a job; False where it is lost."""
        statement = (
            jobs.update()
            .where(jobs.c.id == job_id, _IS_UNPLANNED, jobs.c.prepare_token == token)
            .values(prepare_until=_from_now(lease_s))
        )
        return self._connection.execute(statement).rowcount == 1

    def release_preparation(self, job_id: str, *, token: str, counted: bool) -> None:
        """Give the right to plan a job back before its time, so that the next try need not wait.

        Args:
            counted: whether this try counts towards the most there may be.
        """
        attempts = jobs.c.prepare_attempts - (0 if counted else 1)
        statement = (
            jobs.update()
            .where(jobs.c.id == job_id, jobs.c.prepare_token == token)
            .values(prepare_until=None, prepare_attempts=attempts)
        )
        self._connection.execute(statement)

    def lock_preparation(self, job_id: str, *, token: str) -> Job | None:
        """Lock the job's row; None where this token may no longer plan it."""
        query = select(*_FIELDS).where(jobs.c.id == job_id, _IS_UNPLANNED, jobs.c.prepare_token == token)
        row = self._connection.execute(query.with_for_update(key_share=True)).mappings().one_or_none()
        return None if row is None else _job(row)

    def unprepared(self, limit: int) -> Sequence[str]:
        """Jobs that wait for a planner, oldest first."""
        query = (
            select(jobs.c.id)
            .where(
                _IS_UNPLANNED,
                or_(jobs.c.prepare_until.is_(None), jobs.c.prepare_until < func.now()),
            )
            .order_by(jobs.c.created_at)
            .limit(limit)
        )
        return self._connection.execute(query).scalars().all()

    def overdue(self, limit: int) -> Sequence[str]:
        """Live jobs whose deadline passed and which nothing has stopped yet."""
        query = (
            select(jobs.c.id)
            .where(
                jobs.c.state.in_(LIVE_JOB_STATES - {JobState.FINALIZING}),
                jobs.c.stop_reason.is_(None),
                jobs.c.deadline_at < func.now(),
            )
            .limit(limit)
        )
        return self._connection.execute(query).scalars().all()

    def _listed(self, tenant_id: str, filters: JobFilters) -> Select[Any]:
        own = (jobs.c.tenant_id == tenant_id, jobs.c.deleted_at.is_(None))
        return select(*_FIELDS).where(*own, *_conditions(filters))

    def _place(self, tenant_id: str, job_id: str, *, param: str) -> tuple[datetime, str]:
        query = select(jobs.c.created_at).where(jobs.c.id == job_id, jobs.c.tenant_id == tenant_id)
        created_at: datetime | None = self._connection.execute(query).scalar_one_or_none()
        if created_at is None:
            raise _not_found(job_id, param=param)
        return created_at, job_id

    def _insert(self, values: dict[str, Any]) -> Job:
        statement = jobs.insert().values(**values).returning(*_FIELDS)
        job = _job(self._connection.execute(statement).mappings().one())
        if job.input_file_id is None:
            StoredBytes(self._connection).add(job.tenant_id, job.input_size_bytes)
        return job

    def _one(self, query: Select[Any], job_id: str, *, param: str = "id") -> Job:
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(job_id, param=param)
        return _job(row)


def _not_found(job_id: str, *, param: str) -> NotFound:
    return NotFound(f"There is no job {job_id[:80]!r}.", param=param)


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + timedelta(seconds=seconds)


def _job(row: RowMapping) -> Job:
    values = {name.name: row[name.name] for name in dataclasses.fields(Job)}
    for name, enum in _ENUMS.items():
        values[name] = enum(values[name])
    values["webhook"] = JobWebhook.read(values["webhook"])
    return Job(**values)


def _conditions(filters: JobFilters) -> Iterable[ColumnElement[bool]]:
    yield jobs.c.group_id.is_(None) if filters.group_id is None else jobs.c.group_id == filters.group_id
    if filters.state is not None:
        yield jobs.c.state == filters.state
    if filters.dialect is not None:
        yield jobs.c.dialect == filters.dialect
    if filters.endpoint is not None:
        yield jobs.c.endpoint == filters.endpoint
    if filters.model is not None:
        yield jobs.c.model == filters.model
    if filters.created_after is not None:
        yield jobs.c.created_at > filters.created_after
    if filters.created_before is not None:
        yield jobs.c.created_at < filters.created_before
    if filters.metadata:
        yield jobs.c.metadata.contains(filters.metadata)
