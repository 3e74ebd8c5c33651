"""What jobs came to: counts, usage and error mix, derived from chunks, and the writing of result parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Integer, and_, case, cast, func, select
from sqlalchemy.sql import ColumnElement

from app.db.repositories.jobs import Jobs
from app.db.repositories.stored_bytes import StoredBytes
from app.db.tables import chunks, jobs, result_parts
from app.domain.chunks import NewPart
from app.domain.jobs import Counts, Usage
from app.domain.states import ChunkState


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The sums over a job's chunks."""

    counts: Counts
    usage: Usage
    errors_by_code: dict[str, int]


# Whether what a chunk holds beside its successes still counts: a retry may have taken it over.
_STANDS = chunks.c.retried_in.is_(None)
EMPTY_TALLY = Tally(counts=Counts(), usage=Usage(), errors_by_code={})


class Outcomes:
    """Sums over chunks, and result parts, inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def tallies(self, job_ids: Sequence[str]) -> dict[str, Tally]:
        """Sums for several jobs; a job that has no chunks yet counts its known items as pending."""
        planned = self._unplanned_items(job_ids)
        errors = self._errors_by_code(job_ids)
        found = {job_id: Tally(counts=counts, usage=Usage(), errors_by_code={}) for job_id, counts in planned.items()}
        query = (
            select(
                chunks.c.job_id,
                (_items_in(ChunkState.PENDING, ChunkState.GRANTED) + _items_to_plan()).label("pending"),
                _items_in(ChunkState.RUNNING).label("running"),
                func.coalesce(func.sum(chunks.c.n_succeeded), 0).label("succeeded"),
                _sum_where(chunks.c.n_failed, _STANDS).label("failed"),
                _items_in(ChunkState.CANCELLED).label("cancelled"),
                _items_in(ChunkState.EXPIRED).label("expired"),
                func.coalesce(func.sum(chunks.c.input_tokens), 0).label("input_tokens"),
                func.coalesce(func.sum(chunks.c.output_tokens), 0).label("output_tokens"),
                func.coalesce(func.sum(chunks.c.device_s), 0.0).label("device_s"),
            )
            .join(jobs, jobs.c.id == chunks.c.job_id)
            .where(chunks.c.job_id.in_(job_ids))
            .group_by(chunks.c.job_id)
        )
        for row in self._connection.execute(query).mappings():
            values = {
                name: int(row[name]) for name in ("pending", "running", "succeeded", "failed", "cancelled", "expired")
            }
            usage = Usage(
                input_tokens=int(row["input_tokens"]),
                output_tokens=int(row["output_tokens"]),
                device_s=float(row["device_s"]),
            )
            counts = Counts(total=sum(values.values()), **values)
            found[row["job_id"]] = Tally(counts=counts, usage=usage, errors_by_code=errors.get(row["job_id"], {}))
        return found

    def tally(self, job_id: str) -> Tally:
        """Sums for one job."""
        return self.tallies([job_id]).get(job_id, EMPTY_TALLY)

    def add_parts(self, tenant_id: str, job_id: str, chunk_id: int | None, parts: Sequence[NewPart]) -> None:
        """Make uploaded parts visible at the end of the job's result stream. Locks the job's row."""
        if not parts:
            return
        first = Jobs(self._connection).next_part_seq(job_id, len(parts))
        rows = [
            {
                "tenant_id": tenant_id,
                "job_id": job_id,
                "chunk_id": chunk_id,
                "seq": first + place,
                "outcome": part.outcome,
                "object_key": part.object_key,
                "size_bytes": part.size_bytes,
                "n_items": part.n_items,
                "sha256": part.sha256,
            }
            for place, part in enumerate(parts)
        ]
        self._connection.execute(result_parts.insert().values(rows))
        StoredBytes(self._connection).add(tenant_id, sum(part.size_bytes for part in parts))

    def part_totals(self, job_id: str) -> dict[str, tuple[int, int]]:
        """Items and bytes that a job's parts hold which stand, by outcome."""
        query = (
            select(result_parts.c.outcome, func.sum(result_parts.c.n_items), func.sum(result_parts.c.size_bytes))
            .where(result_parts.c.job_id == job_id, result_parts.c.superseded_in.is_(None))
            .group_by(result_parts.c.outcome)
        )
        return {outcome: (int(items), int(size)) for outcome, items, size in self._connection.execute(query)}

    def _unplanned_items(self, job_ids: Sequence[str]) -> dict[str, Counts]:
        query = select(jobs.c.id, func.coalesce(jobs.c.n_items, 0)).where(jobs.c.id.in_(job_ids))
        return {job_id: Counts(total=n, pending=n) for job_id, n in self._connection.execute(query)}

    def _errors_by_code(self, job_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        pair = func.jsonb_each_text(chunks.c.errors_by_code).table_valued("key", "value")
        query = (
            select(chunks.c.job_id, pair.c.key, func.sum(cast(pair.c.value, Integer)))
            .select_from(chunks.join(pair, onclause=chunks.c.id.is_not(None)))
            .where(chunks.c.job_id.in_(job_ids), chunks.c.state == ChunkState.DONE, _STANDS)
            .group_by(chunks.c.job_id, pair.c.key)
        )
        found: dict[str, dict[str, int]] = {}
        for job_id, code, number in self._connection.execute(query):
            found.setdefault(job_id, {})[code] = int(number)
        return found


def _items_in(*states: ChunkState) -> ColumnElement[int]:
    return _sum_where(chunks.c.n_items, chunks.c.state.in_(states), _STANDS)


def _items_to_plan() -> ColumnElement[int]:
    """Items that the job's present run took over and that are in no chunk yet."""
    taken = case((chunks.c.state == ChunkState.DONE, chunks.c.n_failed), else_=chunks.c.n_items)
    return _sum_where(taken, chunks.c.retried_in == jobs.c.attempt_runs, jobs.c.queued_at.is_(None))


def _sum_where(number: ColumnElement[int], *conditions: ColumnElement[bool]) -> ColumnElement[int]:
    return func.coalesce(func.sum(case((and_(*conditions), number), else_=0)), 0)
