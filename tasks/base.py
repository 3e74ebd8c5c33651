"""What every task shares: ids bound to its log lines, and refusals that are not failures."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import structlog
from celery import Task

from app.observability.tracing import Span, span, traceparent

log = structlog.get_logger(__name__)

MESSAGE_VERSION = 1
"""Version of what our messages say; raised when an older worker would misread them."""


class NightshiftTask(Task):
    """A task whose arguments, if any, are ids; they are bound to every log line it writes."""

    abstract = True
    ignore_result = True
    typing = False  # ``version`` is taken off before the task is called

    def __call__(self, *args: Any, version: int = MESSAGE_VERSION, **kwargs: Any) -> Any:
        """Run the task, unless a newer release sent it: the dispatcher sends it again until a worker knows it."""
        # Bound until the next task begins: Celery logs and Sentry reports an error once this has ended.
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(task=self.name, task_id=self.request.id, **kwargs)
        with self._span():
            if version > MESSAGE_VERSION:
                log.warning("message_from_newer_release", version=version)
                return "unknown_version"
            return super().__call__(*args, **kwargs)

    def _span(self) -> AbstractContextManager[Span | None]:
        """Go on with the trace of the message; ticks, which have none, begin none."""
        parent = getattr(self.request, "traceparent", None)
        if parent is None:
            return nullcontext()
        return span(self.name, parent=parent, kind="consumer", **{"messaging.message.id": self.request.id})


def message_headers() -> dict[str, str]:
    """What the message of a task says beside its arguments: the trace that it belongs to."""
    parent = traceparent()
    return {} if parent is None else {"traceparent": parent}
