"""Nightly runs: what a schedule is, what one run of it is, and what is odd about a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.jobs import Counts, Dialect, JobRequest, JobWebhook, OnDeadline, OnOversize, Priority
from app.domain.windows import LONGEST_S, SHORTEST_S

# Set by the run itself, so no part of a template.
_NOT_IN_TEMPLATE = frozenset({"dialect", "inputs", "input_file_id", "schedule_id", "api_version"})
_READ: dict[str, Callable[[Any], Any]] = {
    "priority": Priority,
    "on_deadline": OnDeadline,
    "on_oversize": OnOversize,
    "webhook": JobWebhook.read,
}
COMPARED_RUNS = 7
DRIFT_IN_FAILURES = 0.1
DRIFT_IN_SIZE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleSource:
    """Where a run's input comes from: exactly one of the two."""

    file_id: str | None = None
    prefix: str | None = None
    """Of the tenant's inbox; a run takes every ``.jsonl`` object under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRequest:
    """What a client asks for."""

    name: str
    cron: str
    timezone: str
    job: JobRequest
    """The template; ``input_file_id`` and ``inputs`` are unset."""
    source: ScheduleSource
    due_by: str | None = None
    """``HH:MM`` in the schedule's zone: each run's jobs get the next such moment as their deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One row of ``schedules``."""

    id: str
    tenant_id: str
    name: str
    cron: str
    timezone: str
    job_template: dict[str, Any]
    source: ScheduleSource
    due_by: str | None
    enabled: bool
    created_at: datetime
    next_tick_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRun:
    """One row of ``schedule_runs``. It is open until it has jobs or a problem."""

    id: str
    tenant_id: str
    schedule_id: str
    tick_at: datetime | None
    """None for a run asked for by hand."""
    job_ids: tuple[str, ...]
    problem: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run with what its jobs came to."""

    run: ScheduleRun
    counts: Counts
    finished: bool
    warnings: tuple[str, ...] = ()


def template_of(request: JobRequest) -> dict[str, Any]:
    """A job's fields as they are stored with a schedule."""
    return {name: value for name, value in dataclasses.asdict(request).items() if name not in _NOT_IN_TEMPLATE}


def request_of(template: dict[str, Any], *, schedule_id: str, file_id: str) -> JobRequest:
    """The job a run asks for."""
    values: dict[str, Any] = {name: _READ[name](value) if name in _READ else value for name, value in template.items()}
    return JobRequest(dialect=Dialect.NATIVE, input_file_id=file_id, schedule_id=schedule_id, **values)


def window_until(due_by: str, timezone: str, *, now: datetime) -> str:
    """The completion window that ends at the next ``due_by`` behind ``now``, within what a window may be."""
    hour, minute = (int(part) for part in due_by.split(":"))
    local = now.astimezone(ZoneInfo(timezone))
    due = local.replace(hour=hour, minute=minute, second=0, microsecond=0, fold=0)
    if due <= local:
        due = (due.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=local.tzinfo)
    seconds = int(due.timestamp() - now.timestamp())
    return f"{min(max(seconds, SHORTEST_S), LONGEST_S)}s"


def drift_warnings(counts: Counts, before: Sequence[Counts]) -> tuple[str, ...]:
    """What is odd about a finished run beside the finished runs before it, in sentences.

    Args:
        before: up to ``COMPARED_RUNS`` of them, newest first.
    """
    compared = [other for other in before if other.total]
    if not compared or not counts.total:
        return ()
    usual_share = sum(_failed_share(other) for other in compared) / len(compared)
    usual_size = sum(other.total for other in compared) / len(compared)
    found = []
    if abs(_failed_share(counts) - usual_share) > DRIFT_IN_FAILURES:
        found.append(f"{_failed_share(counts):.0%} of the items did not succeed; lately it was {usual_share:.0%}")
    if abs(counts.total - usual_size) > DRIFT_IN_SIZE * usual_size:
        found.append(f"{counts.total} items; lately there were {usual_size:.0f}")
    return tuple(found)


def _failed_share(counts: Counts) -> float:
    return 1 - counts.succeeded / counts.total


def total_of(several: Sequence[Counts]) -> Counts:
    """The sum of several jobs' counts."""
    names = [spec.name for spec in dataclasses.fields(Counts)]
    return Counts(**{name: sum(getattr(counts, name) for counts in several) for name in names})
