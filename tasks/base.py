"""What every task shares: ids bound to its log lines, and refusals that are not failures."""

from __future__ import annotations

from typing import Any

import structlog
from celery import Task


class NightshiftTask(Task):
    """A task whose arguments are ids; they are bound to every log line it writes."""

    abstract = True
    ignore_result = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with structlog.contextvars.bound_contextvars(task=self.name, task_id=self.request.id, **kwargs):
            return super().__call__(*args, **kwargs)
