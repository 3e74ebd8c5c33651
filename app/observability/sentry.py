"""Sentry for Flask and Celery: bugs and failing dependencies, never a client's data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sentry_sdk

from app.errors import LeaseLost, NightshiftError, RequestRefused, SyncTimedOut
from app.observability.ids import bound_ids
from config.settings import Settings

if TYPE_CHECKING:
    from sentry_sdk._types import Event, Hint

# They are answers, not faults: the caller was told, or another worker has the chunk.
EXPECTED = (RequestRefused, LeaseLost, SyncTimedOut)


def init_sentry(settings: Settings, *, process: str) -> None:
    """Send this process's errors to Sentry; without a DSN, do nothing.

    Flask and Celery are hooked by the SDK itself. Items of jobs never leave: no request bodies, no local
    variables, no default personal data.
    """
    if not settings.sentry_dsn:
        return
    sentry_sdk.init(
        dsn=settings.sentry_dsn,
        environment=settings.environment,
        before_send=before_send,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
        traces_sample_rate=0.0,
    )
    sentry_sdk.set_tag("process", process)


def before_send(event: Event, hint: Hint) -> Event | None:
    """Drop what is expected; give the rest the ids that its log lines carry."""
    raised = hint.get("exc_info")
    if raised is not None and isinstance(raised[1], EXPECTED):
        return None
    if raised is not None and isinstance(raised[1], NightshiftError):
        event["fingerprint"] = [type(raised[1]).__name__]  # one issue for each of our classes, wherever it is raised
    event["tags"] = {**dict(event.get("tags") or {}), **bound_ids()}
    return event
