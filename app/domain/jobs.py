"""A job as the core knows it, whichever dialect made it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.domain.states import JobState


class Dialect(StrEnum):
    """The API a job was made through."""

    NATIVE = "native"
    OPENAI = "openai"
    ANTHROPIC = "anthropic"

    @property
    def stores_openai_lines(self) -> bool:
        """Whether result parts hold OpenAI's lines, and are output files there; else they hold native ones."""
        return self is not Dialect.NATIVE


class Priority(StrEnum):
    """P1, P2, P3."""

    URGENT = "urgent"
    STANDARD = "standard"
    BACKGROUND = "background"


class OnDeadline(StrEnum):
    """What happens to unfinished items when the completion window closes."""

    EXPIRE = "expire"
    ESCALATE = "escalate"


class OnOversize(StrEnum):
    """What happens to an item with more tokens than the model takes."""

    FAIL = "fail"
    TRUNCATE = "truncate"
    SPLIT = "split"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWebhook:
    """Whom a job tells itself, beside the endpoints of its tenant."""

    url: str
    events: tuple[str, ...]

    @classmethod
    def read(cls, stored: dict[str, Any] | None) -> JobWebhook | None:
        """Read what a row or a template holds."""
        return None if stored is None else cls(url=stored["url"], events=tuple(stored["events"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a client asks for, free of its dialect; exactly one of ``inputs`` and ``input_file_id`` is set.

    A single ``input`` arrives here as ``inputs`` of one.
    """

    dialect: Dialect
    endpoint: str
    model: str | None = None
    inputs: tuple[Any, ...] | None = None
    """Strings, or ``{"custom_id", "body"}`` objects, already checked by the schema for their type."""
    input_file_id: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    priority: Priority = Priority.STANDARD
    completion_window: str = "24h"
    on_deadline: OnDeadline = OnDeadline.EXPIRE
    max_attempts: int = 3
    item_timeout_s: float | None = None
    on_oversize: OnOversize = OnOversize.FAIL
    output_expires_after_s: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    schedule_id: str | None = None
    webhook: JobWebhook | None = None
    api_version: str | None = None
    """The ``anthropic-version`` that a batch of messages was made under; None in the other dialects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of ``jobs``."""

    id: str
    tenant_id: str
    dialect: Dialect
    state: JobState
    endpoint: str
    model: str | None
    model_version: str | None
    pool: str | None
    priority: Priority
    completion_window: str
    on_deadline: OnDeadline
    max_attempts: int
    item_timeout_s: float | None
    on_oversize: OnOversize
    parameters: dict[str, Any]
    metadata: dict[str, str]
    input_file_id: str | None
    input_key: str
    input_size_bytes: int
    n_items: int | None
    """None until the input is validated."""
    validation_errors: list[dict[str, Any]]
    """First 100 of ``{line, code, message, param}``; ``line`` counts from 1."""
    failure: dict[str, Any] | None
    """Why the job as a whole failed: ``{code, message}``."""
    refusal: str | None
    """Why items that have not run are failed without being run, such as an upstream server that refuses our key."""
    stop_reason: str | None
    attempt_runs: int
    final: dict[str, Any] | None
    output_file_id: str | None
    error_file_id: str | None
    output_expires_after_s: int | None
    schedule_id: str | None
    webhook: JobWebhook | None
    group_id: str | None
    api_version: str | None
    traceparent: str | None
    created_at: datetime
    deadline_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    cancelling_at: datetime | None
    finalizing_at: datetime | None
    finished_at: datetime | None
    results_expire_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Items of a job by outcome; ``total`` is the sum of the other six."""

    total: int = 0
    pending: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0

    @property
    def finished(self) -> int:
        """Items that have their outcome."""
        return self.succeeded + self.failed + self.cancelled + self.expired


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a job consumed so far."""

    input_tokens: int = 0
    output_tokens: int = 0
    device_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a job costs, in units of ``currency``; ``charged = list - discount``."""

    currency: str
    list: float
    discount: float
    charged: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a live job does not run."""

    reason: str
    detail: str
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Eta:
    """When a live job is expected to end, in seconds from now."""

    seconds: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """A job with everything that is counted from its chunks and parts."""

    job: Job
    counts: Counts
    usage: Usage
    cost: Cost
    errors_by_code: dict[str, int]
    waiting: Waiting | None = None
    eta: Eta | None = None
    webhook_secret: str | None = None
    """What its own webhook is signed with; known only where the job is submitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultPart:
    """One immutable object of result lines, as the dialect of its job stores them."""

    seq: int
    outcome: str
    object_key: str
    size_bytes: int
    n_items: int
    sha256: str
