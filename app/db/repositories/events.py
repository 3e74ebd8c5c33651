"""The history of jobs: one row per change, in the same transaction as the change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping

from app.db.tables import events

_TOLD_OF_CHUNKS = ("queue", "attempt", "worker_deaths")


class Events:
    """Appends to the history of jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(
        self, tenant_id: str, job_id: str, kind: str, *, chunk_id: int | None = None, data: dict[str, Any] | None = None
    ) -> None:
        """Write one event; ``kind`` is a constant name such as ``state`` or ``chunk_done``."""
        self._connection.execute(
            events.insert().values(tenant_id=tenant_id, job_id=job_id, chunk_id=chunk_id, kind=kind, data=data or {})
        )

    def append_of_chunks(self, kind: str, chunks: Sequence[RowMapping], data: Mapping[str, Any]) -> None:
        """Write one event for each of these rows of ``chunks``, with its queue, attempt and deaths."""
        rows = [
            {
                "tenant_id": chunk["tenant_id"],
                "job_id": chunk["job_id"],
                "chunk_id": chunk["id"],
                "kind": kind,
                "data": {**{name: chunk[name] for name in _TOLD_OF_CHUNKS}, **data},
            }
            for chunk in chunks
        ]
        if rows:
            self._connection.execute(events.insert(), rows)
