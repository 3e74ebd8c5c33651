"""The workers as an operator sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class WorkerState(StrEnum):
    """What a device queue and its worker are up to."""

    LIVE = "live"  # heard of lately, and takes chunks
    STUCK = "stuck"  # heard of lately, but takes none of the chunks published to it
    DRAINING = "draining"  # finishes the chunk it runs and takes no more
    DRAINED = "drained"  # takes no more and runs nothing; its process may be stopped
    SILENT = "silent"  # not heard of lately


@dataclass(frozen=True, slots=True)
class RunningChunk:
    """The chunk that a worker holds."""

    chunk_id: int
    job_id: str
    running_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """A device queue and the process that serves it; of a drained queue there may be none."""

    queue: str
    pool: str
    state: WorkerState
    host: str | None
    incarnation: str | None
    """Names the very process; a restart gets another."""
    started_at: datetime | None
    age_s: float | None
    """Since this incarnation began."""
    seen_at: datetime | None
    warm_models: tuple[str, ...]
    unloadable_models: tuple[str, ...]
    """Models that it tried to load lately and could not."""
    running: RunningChunk | None
    n_waiting: int
    """Chunks that were published to it and that it has not taken."""
    drained_at: datetime | None


def worker_state(*, is_drained: bool, is_heard: bool, is_stuck: bool, is_running: bool) -> WorkerState:
    """What to call a worker. A drain outweighs the rest: it is what somebody decided, and it outlives the process."""
    if is_drained:
        return WorkerState.DRAINING if is_running else WorkerState.DRAINED
    if not is_heard:
        return WorkerState.SILENT
    return WorkerState.STUCK if is_stuck else WorkerState.LIVE
