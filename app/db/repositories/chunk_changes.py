"""The one way in which chunks change their state: allowed by the table, from the state expected, told as events."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, RowMapping
from sqlalchemy.sql import ColumnElement

from app.db.repositories.events import Events
from app.db.tables import chunks
from app.domain.states import ChunkState, check_chunk


def change_chunks(
    connection: Connection,
    *conditions: ColumnElement[bool],
    sources: Collection[ChunkState],
    wanted: ChunkState,
    values: Mapping[str, Any],
    told: Mapping[str, Any] = MappingProxyType({}),
) -> Sequence[RowMapping]:
    """Move every chunk that meets ``conditions`` and is in one of ``sources``; gives the rows as they are now.

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
    return changed
