"""The one way in which chunks change their state: allowed by the table, from the state expected, told as events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, RowMapping
from sqlalchemy.sql import ColumnElement

from app.db.repositories.events import Events
from app.db.tables import chunks, jobs
from app.domain.states import TERMINAL_CHUNK_STATES, ChunkState, check_chunk


def change_chunks(
    connection: Connection,
    *conditions: ColumnElement[bool],
    sources: Collection[ChunkState],
    wanted: ChunkState,
    values: Mapping[str, Any],
    told: Mapping[str, Any] = MappingProxyType({}),
) -> Sequence[RowMapping]:
    """Move every chunk that meets ``conditions`` and is in one of ``sources``; gives the rows as they are now.

    Where that ends them the caller holds the locks of their jobs' rows.

    Args:
        values: columns to set beside the state.
        told: said in each event beside the queue and the attempt.
    Raises:
        StateConflict: the table does not hold one of these changes.
    """
    for source in sources:
        check_chunk(source, wanted)
    statement = (
        chunks.update()
        .where(chunks.c.state.in_(list(sources)), *conditions)
        .values(state=wanted, **values)
        .returning(*chunks.c)
    )
    changed = connection.execute(statement).mappings().all()
    Events(connection).append_of_chunks(f"chunk_{wanted}", changed, told)
    if wanted in TERMINAL_CHUNK_STATES:
        ended: Counter[str] = Counter()
        for chunk in changed:
            ended[chunk["job_id"]] += chunk["estimated_tokens"]
        for job_id, tokens in ended.items():
            change_remaining(connection, job_id, -tokens)
    return changed


def change_remaining(connection: Connection, job_id: str, tokens: int) -> None:
    """Keep the estimated tokens of a job's live chunks; its row is locked by the caller."""
    statement = jobs.update().where(jobs.c.id == job_id).values(remaining_tokens=jobs.c.remaining_tokens + tokens)
    connection.execute(statement)
