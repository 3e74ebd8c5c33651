"""What is told by webhook, to whom, and how it is signed (Standard Webhooks)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from standardwebhooks import Webhook

from app.domain.ids import batch_id
from app.domain.jobs import Counts, Dialect, Job
from app.domain.states import TERMINAL_JOB_STATES, JobState

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets begin with
SECRET_BYTES = 32
HINT_CHARS = 4
OLD_SECRET_LIFE_S = 86_400

JOB_END_EVENTS = tuple(f"job.{state}" for state in JobState if state in TERMINAL_JOB_STATES)
JOB_EVENTS = (*JOB_END_EVENTS, "job.held", "job.progress")
BATCH_EVENTS = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
EVENT_TYPES = (*JOB_EVENTS, *BATCH_EVENTS)
PROGRESS = "job.progress"

BACKOFF_S = (5.0, 30.0, 120.0, 300.0, 900.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 28_800.0)
"""Pauses behind the first, second ... failed attempt; the last is repeated until a day has passed."""

_BATCH_EVENT = {
    JobState.SUCCEEDED: "batch.completed",
    JobState.PARTIALLY_SUCCEEDED: "batch.completed",
    JobState.EXPIRED: "batch.expired",
    JobState.CANCELLED: "batch.cancelled",
}


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    PENDING = "pending"  # to be sent, or sent again
    DELIVERED = "delivered"  # the receiver answered 2xx
    FAILED = "failed"  # given up: the receiver did not take it for a day
    DROPPED = "dropped"  # its endpoint was deleted, or newer progress took its place


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEndpoint:
    """One row of ``webhook_endpoints``, but for its secrets."""

    id: str
    tenant_id: str
    name: str
    url: str
    event_types: list[str]
    secret_hint: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class EndpointWithSecret:
    """An endpoint and its signing secret, which is shown once."""

    endpoint: WebhookEndpoint
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one receiver, and what became of it."""

    id: str
    event_id: str
    event_type: str
    job_id: str
    endpoint_id: str | None
    url: str
    state: DeliveryState
    attempts: list[dict[str, Any]]
    """``{at, status, error, duration_s}`` each, the oldest first."""
    next_attempt_at: datetime
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedDelivery:
    """A delivery that this process sends now."""

    id: str
    tenant_id: str
    event_id: str
    endpoint_id: str | None
    url: str
    payload: str
    attempt: int
    """Counts from 1; whoever claims it later has a higher one."""
    claimed_at: datetime
    """On the database's clock; the ``webhook-timestamp``."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of sending a webhook once."""

    status: int | None
    error: str | None
    """A constant code where no answer came."""
    duration_s: float

    @property
    def was_taken(self) -> bool:
        """Whether the receiver has it; a redirect is not followed and counts as a refusal."""
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """What a receiver answered to a sample event."""

    endpoint_id: str
    event_type: str
    status: int


def events_of(job: Job) -> tuple[str, ...]:
    """The events that a job's state stands for; it has just come into it."""
    if job.state is JobState.HELD:
        return ("job.held",)
    if job.state not in TERMINAL_JOB_STATES:
        return ()
    native = f"job.{job.state}"
    return (native, _batch_event(job)) if job.dialect is Dialect.OPENAI else (native,)


def _batch_event(job: Job) -> str:
    """In the words of the OpenAI API, where only a refused input fails a batch."""
    if job.state is JobState.FAILED:
        return "batch.failed" if job.failure is not None else "batch.completed"
    return _BATCH_EVENT[job.state]


def job_payload(job: Job, *, event_id: str, event_type: str, counts: Counts, now: datetime) -> str:
    """The body of a webhook about a job; little, because what it tells may be old when it arrives."""
    if event_type in BATCH_EVENTS:
        return payload(event_id=event_id, event_type=event_type, data={"id": batch_id(job.id)}, now=now)
    data = {
        "id": job.id,
        "object": "job",
        "state": job.state,
        "endpoint": job.endpoint,
        "model": job.model,
        "counts": {name: getattr(counts, name) for name in Counts.__dataclass_fields__},
        "metadata": job.metadata,
        "group_id": job.group_id,
        "schedule_id": job.schedule_id,
    }
    return payload(event_id=event_id, event_type=event_type, data=data, now=now)


def sample_data(event_type: str) -> dict[str, Any]:
    """What a test webhook says; no such job exists."""
    suffix = "0" * 32
    if event_type in BATCH_EVENTS:
        return {"id": f"batch_{suffix}"}
    state = "running" if event_type == PROGRESS else event_type.removeprefix("job.")
    return {"id": f"job_{suffix}", "object": "job", "state": state}


def payload(*, event_id: str, event_type: str, data: Mapping[str, Any], now: datetime) -> str:
    """The body of a webhook, in the shape of the OpenAI API."""
    event = {"id": event_id, "object": "event", "created_at": int(now.timestamp()), "type": event_type, "data": data}
    return orjson.dumps(event).decode()


def signed_headers(*, event_id: str, body: str, now: datetime, signing_secrets: Sequence[str]) -> dict[str, str]:
    """The headers that prove who sent a body and when; one signature for each secret that is valid now."""
    signatures = [Webhook(secret).sign(msg_id=event_id, timestamp=now, data=body) for secret in signing_secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def new_secret() -> str:
    """A fresh signing secret."""
    return _secret_text(secrets.token_bytes(SECRET_BYTES))


def secret_for_url(tenant_id: str, url: str, *, pepper: str) -> str:
    """The signing secret of a receiver that no endpoint is registered for; the same for all jobs of a tenant."""
    label = f"webhook of {tenant_id} to {url}"
    return _secret_text(hmac.digest(pepper.encode(), label.encode(), hashlib.sha256))


def secret_hint(secret: str) -> str:
    """What a secret may be recognised by."""
    return f"{SECRET_PREFIX}...{secret.rstrip('=')[-HINT_CHARS:]}"


def seal_label(endpoint_id: str) -> str:
    """What a sealed secret belongs to."""
    return f"webhook secret of {endpoint_id}"


def backoff_s(n_attempts: int) -> float:
    """How long to wait behind the ``n_attempts``-th failed attempt."""
    return BACKOFF_S[min(n_attempts, len(BACKOFF_S)) - 1]


def _secret_text(key: bytes) -> str:
    return SECRET_PREFIX + base64.b64encode(key).decode()
