"""Groups of jobs: their rows, who leads one, and how far it has come."""

from __future__ import annotations

import builtins
import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, exists, func, or_, select, tuple_
from sqlalchemy.sql import ColumnElement, Select

from app.db.tables import groups, jobs
from app.domain.groups import Group, GroupOrder, Member
from app.domain.states import LIVE_JOB_STATES, JobState
from app.errors import NotFound

_FIELDS = [groups.c[spec.name] for spec in dataclasses.fields(Group)]
_MEMBER_FIELDS = (
    jobs.c.id,
    jobs.c.group_ordinal.label("ordinal"),
    jobs.c.state,
    jobs.c.group_order_seq.label("order_seq"),
    jobs.c.attempt_runs,
    jobs.c.final,
    jobs.c.started_at,
    jobs.c.finished_at,
)


class Groups:
    """Reads and changes groups inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, *, completion_window_s: int, values: dict[str, Any]) -> Group:
        """Add a group; its deadline, which is every member's, is counted from the database's clock."""
        statement = groups.insert().values(deadline_at=_from_now(completion_window_s), **values).returning(*_FIELDS)
        return _group(self._connection.execute(statement).mappings().one())

    def get(self, tenant_id: str, group_id: str, *, param: str = "id") -> Group:
        """One group of a tenant.

        Raises:
            NotFound: no such group, or another tenant's.
        """
        row = None
        if "\0" not in group_id:
            query = select(*_FIELDS).where(groups.c.id == group_id, groups.c.tenant_id == tenant_id)
            row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no group {group_id[:80]!r}.", param=param)
        return _group(row)

    def get_any(self, group_id: str) -> Group:
        """One group whoever owns it; for callers that have asked before whose it is."""
        return _group(self._connection.execute(select(*_FIELDS).where(groups.c.id == group_id)).mappings().one())

    def lock(self, group_id: str) -> Group:
        """One group, its row locked until the end of the transaction. Lock a group before its members."""
        return self._locked(select(*_FIELDS).where(groups.c.id == group_id))

    def list(self, tenant_id: str, *, limit: int, after: str | None) -> list[Group]:
        """A tenant's groups, newest first, behind the group ``after``.

        Raises:
            NotFound: there is no group ``after``.
        """
        query = select(*_FIELDS).where(groups.c.tenant_id == tenant_id)
        if after is not None:
            mark = self.get(tenant_id, after, param="after")
            query = query.where(tuple_(groups.c.created_at, groups.c.id) < (mark.created_at, mark.id))
        query = query.order_by(groups.c.created_at.desc(), groups.c.id.desc()).limit(limit)
        return [_group(row) for row in self._connection.execute(query).mappings()]

    def members(self, group_id: str) -> builtins.list[Member]:
        """The jobs of a group in the order of the input."""
        query = select(*_MEMBER_FIELDS).where(jobs.c.group_id == group_id).order_by(jobs.c.group_ordinal)
        return [_member(row) for row in self._connection.execute(query).mappings()]

    def behind(self, group_id: str, order_seq: int, limit: int) -> Sequence[str]:
        """Ids of members that an order has not reached, in the order of the input."""
        query = select(jobs.c.id).where(jobs.c.group_id == group_id, jobs.c.group_order_seq < order_seq)
        return self._connection.execute(query.order_by(jobs.c.group_ordinal).limit(limit)).scalars().all()

    def count_open(self, tenant_id: str, *, at_most: int) -> int:
        """Groups of a tenant that have not ended, counted no further than ``at_most``."""
        found = select(groups.c.id).where(groups.c.tenant_id == tenant_id, groups.c.closed_at.is_(None)).limit(at_most)
        return self._connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()

    def update(self, group_id: str, **values: Any) -> Group:
        """Change columns; gives the group as it is now."""
        statement = groups.update().where(groups.c.id == group_id).values(**values).returning(*_FIELDS)
        return _group(self._connection.execute(statement).mappings().one())

    def in_need(self, limit: int) -> Sequence[str]:
        """Groups that wait for somebody to lead them on, oldest first."""
        query = select(groups.c.id).where(_needs_a_lead(), _is_free()).order_by(groups.c.created_at).limit(limit)
        return self._connection.execute(query).scalars().all()

    def claim(self, group_id: str, *, token: str, lease_s: float) -> tuple[Group, int] | None:
        """Take the lead of a group.

        Returns:
            The group and how many tries without progress there were, this one counted; None where it needs no lead or
            another has it.
        """
        statement = (
            groups.update()
            .where(groups.c.id == group_id, _needs_a_lead(), _is_free())
            .values(lead_token=token, lead_until=_from_now(lease_s), lead_attempts=groups.c.lead_attempts + 1)
            .returning(*_FIELDS, groups.c.lead_attempts)
        )
        row = self._connection.execute(statement).mappings().one_or_none()
        return None if row is None else (_group(row), row["lead_attempts"])

    def renew(self, group_id: str, *, token: str, lease_s: float) -> bool:
        """Keep the lead; False where it is lost."""
        statement = groups.update().where(_led(group_id, token)).values(lead_until=_from_now(lease_s))
        return self._connection.execute(statement).rowcount == 1

    def lock_led(self, group_id: str, *, token: str) -> Group | None:
        """One group, its row locked; None where this token leads it no more."""
        query = select(*_FIELDS).where(_led(group_id, token)).with_for_update()
        row = self._connection.execute(query).mappings().one_or_none()
        return None if row is None else _group(row)

    def release(self, group_id: str, *, token: str, counted: bool) -> None:
        """Give the lead back before its time.

        Args:
            counted: whether this try counts towards the most there may be without progress.
        """
        attempts = groups.c.lead_attempts - (0 if counted else 1)
        self._connection.execute(
            groups.update().where(_led(group_id, token)).values(lead_until=None, lead_attempts=attempts)
        )

    def are_expired(self, group_id: str) -> bool:
        """Whether the results of a group have reached the end of their life."""
        query = select(groups.c.results_expire_at <= func.now()).where(groups.c.id == group_id)
        return bool(self._connection.execute(query).scalar_one_or_none())

    def close(self, group_id: str, *, life_s: int) -> None:
        """Note that every member has ended; their results live on together."""
        expire_at = _from_now(life_s)
        self.update(group_id, closed_at=func.now(), results_expire_at=expire_at)
        self._connection.execute(jobs.update().where(jobs.c.group_id == group_id).values(results_expire_at=expire_at))

    def reopen(self, group_id: str) -> None:
        """Undo ``close``: something of the group runs again, and no member's results may end before that has."""
        self.update(group_id, closed_at=None, results_expire_at=None, order_kind=None)
        ending = (jobs.c.group_id == group_id, jobs.c.results_expire_at.is_not(None))
        self._connection.execute(jobs.update().where(*ending).values(results_expire_at=None))

    def _locked(self, query: Select[Any]) -> Group:
        return _group(self._connection.execute(query.with_for_update()).mappings().one())


def _needs_a_lead() -> ColumnElement[bool]:
    """Whether something is left to do that no member does by itself: check, plan, pass an order on, or close."""
    of_group = jobs.c.group_id == groups.c.id
    behind = exists().where(of_group, jobs.c.group_order_seq < groups.c.order_seq)
    live = exists().where(of_group, jobs.c.state.in_(LIVE_JOB_STATES))
    return and_(groups.c.closed_at.is_(None), or_(groups.c.planned_at.is_(None), behind, ~live))


def _is_free() -> ColumnElement[bool]:
    return or_(groups.c.lead_until.is_(None), groups.c.lead_until < func.now())


def _led(group_id: str, token: str) -> ColumnElement[bool]:
    return and_(groups.c.id == group_id, groups.c.lead_token == token, groups.c.lead_until.is_not(None))


def _from_now(seconds: float) -> ColumnElement[Any]:
    return func.now() + timedelta(seconds=seconds)


def _group(row: RowMapping) -> Group:
    values = {spec.name: row[spec.name] for spec in dataclasses.fields(Group)}
    if values["order_kind"] is not None:
        values["order_kind"] = GroupOrder(values["order_kind"])
    return Group(**values)


def _member(row: RowMapping) -> Member:
    return Member(**{**row, "state": JobState(row["state"])})
