"""The history of jobs: one row per change, in the same transaction as the change."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from app.db.tables import events


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
