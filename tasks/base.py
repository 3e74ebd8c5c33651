"""What every task shares: ids bound to its log lines, and refusals that are not failures."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task

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
        with structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id, **kwargs):
            if version > MESSAGE_VERSION:
                log.warning("message_from_newer_release", version=version)
                return "unknown_version"
            return super().__call__(*args, **kwargs)
