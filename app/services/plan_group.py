"""Make the members of a checked group, one after another, each a byte range of the input.

Each is one transaction: the job, its chunks, and how far the group has come. So the next lead goes on behind the last
member, and workers begin with the first while the rest is still being cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import func

from app.db.repositories.chunks import Chunks
from app.db.repositories.groups import Groups
from app.db.repositories.jobs import Jobs
from app.domain.chunks import NewChunk
from app.domain.groups import Group
from app.domain.ids import new_id
from app.domain.jsonl import Line, read_lines
from app.domain.states import JobState
from app.errors import ObjectMissing
from app.services.group_lead import GroupLead
from app.services.obey_order import obey_in_group, pass_order_on
from app.services.plan_input import Cutter
from app.wiring import Wiring

log = structlog.get_logger(__name__)


def plan_group(*, wiring: Wiring, lead: GroupLead, group: Group) -> Group:
    """Make all members that are missing; gives the group as it is then.

    Raises:
        LeaseLost: another process leads the group.
        StorageUnavailable, DatabaseUnavailable: the members made so far are there.
    """
    try:
        return _GroupPlanner(wiring, lead).plan(group)
    except ObjectMissing:
        # It was there when it was checked: what has become a job ends as a job does whose input was lost.
        log.exception("input_lost", group_id=group.id)
        return _give_up(lead)


class _GroupPlanner:
    def __init__(self, wiring: Wiring, lead: GroupLead) -> None:
        self._wiring = wiring
        self._lead = lead

    def plan(self, group: Group) -> Group:
        start, limit = group.planned_bytes, self._wiring.settings.max_line_bytes
        n_left = (group.n_items or 0) - group.planned_items
        with self._wiring.storage.open(group.input_key, start=start) as reader:
            lines = islice(read_lines(reader, max_line_bytes=limit, start=start), n_left)
            line = next(lines, None)
            while line is not None:
                order_seq = group.order_seq
                group, line = self._make_member(group, line, lines)
                if group.order_seq != order_seq:
                    pass_order_on(wiring=self._wiring, lead=self._lead, group=group)
        return group

    def _make_member(self, group: Group, first: Line, lines: Iterator[Line]) -> tuple[Group, Line | None]:
        """Make one member of the next lines; gives the line behind them as well."""
        cutter = Cutter(self._wiring, group, first_index=group.planned_items)
        line: Line | None = first
        for _ in range(self._wiring.settings.max_member_items):
            if line is None:
                break
            cutter.add(line, group.model)
            self._lead.tick()
            line = next(lines, None)
        cutter.close()
        behind = group.input_size_bytes if line is None else line.offset
        return self._insert(cutter.chunks, start=first.offset, behind=behind, is_last=line is None), line

    def _insert(self, chunks: list[NewChunk], *, start: int, behind: int, is_last: bool) -> Group:
        n_items = sum(chunk.n_items for chunk in chunks)
        with self._lead.write() as (connection, group):
            jobs = Jobs(connection)
            values = _member_row(group, start=start, size_bytes=chunks[-1].byte_end - start, n_items=n_items)
            job = jobs.insert_member(deadline_at=group.deadline_at, values=values)
            job = jobs.change_state(job, JobState.QUEUED, queued_at=func.now()) or job
            Chunks(connection).insert(job.tenant_id, job.id, chunks)
            obey_in_group(connection, group, job)
            return Groups(connection).update(
                group.id,
                n_members=group.n_members + 1,
                planned_items=group.planned_items + n_items,
                planned_bytes=behind,
                planned_at=func.now() if is_last else None,
                lead_attempts=0,
            )


def _member_row(group: Group, *, start: int, size_bytes: int, n_items: int) -> dict[str, Any]:
    return {
        **group.member,
        "id": new_id("job_"),
        "tenant_id": group.tenant_id,
        "state": JobState.VALIDATING,
        "group_id": group.id,
        "group_ordinal": group.n_members,
        "group_order_seq": group.order_seq,
        "input_file_id": group.input_file_id,
        "input_key": group.input_key,
        "input_start": start,
        "input_size_bytes": size_bytes,
        "first_index": group.planned_items,
        "n_items": n_items,
    }


def _give_up(lead: GroupLead) -> Group:
    with lead.write() as (connection, group):
        failure = {"code": "invalid_value", "message": "The input file was lost before all of it was planned."}
        values = {"failure": failure, "n_items": group.planned_items, "planned_at": func.now()}
        return Groups(connection).update(group.id, **values)
