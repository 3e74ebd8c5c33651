"""Server-sent events: what a listener to a job or a group is told, and how it looks on the wire."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from app.domain.jobs import Counts
from app.domain.states import TERMINAL_CHUNK_STATES
from app.errors import InvalidRequest

KINDS = ("state", "chunk", "progress", "done")
LAST_EVENT_ID = "Last-Event-ID"
HEARTBEAT = b": still here\n\n"
GREETING = b"retry: 2000\n: listening\n\n"
"""With it the head of the answer goes out; a browser comes back after two seconds."""

_CHUNK_KINDS = tuple(sorted(f"chunk_{state}" for state in TERMINAL_CHUNK_STATES))
TOLD_KINDS = ("state", *_CHUNK_KINDS)
"""Kinds of event rows that are told. All are written under the lock of the job's row, so they come about in the order
of their ids, and a listener that goes on behind an id misses none."""

_ID = re.compile(r"([0-9]{1,18})(\.done)?")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a listener has come."""

    event_id: int
    is_done: bool = False
    """Whether it was told that the job has ended."""

    @classmethod
    def read(cls, text: str) -> Mark:
        """Read what a listener sends as ``Last-Event-ID``.

        Raises:
            InvalidRequest: no event has such an id.
        """
        match = _ID.fullmatch(text)
        if match is None:
            raise InvalidRequest(f"There is no event {text[:40]!r}; leave the header out.", param=LAST_EVENT_ID)
        return cls(int(match[1]), is_done=match[2] is not None)

    def __str__(self) -> str:
        return f"{self.event_id}.done" if self.is_done else str(self.event_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A row of ``events`` that is told."""

    id: int
    job_id: str
    chunk_id: int | None
    kind: str
    data: dict[str, Any]
    created_at: datetime


def event_frame(row: EventRow) -> bytes:
    """A row as a ``state`` or a ``chunk``."""
    at = row.created_at.isoformat().replace("+00:00", "Z")
    if row.kind == "state":
        return frame("state", {"id": row.job_id, "state": row.data["to"], "from": row.data["from"], "at": at}, row.id)
    told = {"id": row.job_id, "chunk_id": row.chunk_id, "state": row.kind.removeprefix("chunk_"), "at": at}
    return frame("chunk", {**told, "attempt": row.data.get("attempt")}, row.id)


def progress_frame(object_id: str, counts: Counts) -> bytes:
    """How far it has come; without an id of its own, as it can be told again at any time."""
    share = round(counts.finished / counts.total, 6) if counts.total else 0.0
    return frame("progress", {"id": object_id, "progress": share, "counts": shown_counts(counts)})


def done_frame(object_id: str, state: str, counts: Counts, mark: Mark | None = None) -> bytes:
    """The last one."""
    return frame("done", {"id": object_id, "state": state, "counts": shown_counts(counts)}, mark)


def shown_counts(counts: Counts) -> dict[str, int]:
    """Counts by their names."""
    return {name: getattr(counts, name) for name in Counts.__dataclass_fields__}


def frame(event: str, data: Mapping[str, Any], event_id: int | Mark | None = None) -> bytes:
    """One event on the wire; JSON has no line end that would have to be escaped."""
    head = f"event: {event}\n" + (f"id: {event_id}\n" if event_id is not None else "")
    return head.encode() + b"data: " + orjson.dumps(data) + b"\n\n"
