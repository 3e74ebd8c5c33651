"""The Celery app: configuration is read at first use, so that importing a task needs no environment."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery
from celery.signals import beat_init, celeryd_init, setup_logging, worker_process_shutdown, worker_shutdown

from app.observability.sentry import init_sentry
from app.observability.tracing import close_tracing, init_tracing
from config.beat import BEAT_SCHEDULE
from config.celery import celery_config
from config.logging import configure_logging
from config.settings import load_settings

TASK_MODULES = (
    "tasks.callbacks",
    "tasks.chunks",
    "tasks.dead_letters",
    "tasks.groups",
    "tasks.hygiene",
    "tasks.nightly",
    "tasks.prepare",
    "tasks.webhooks",
)


def _config() -> dict[str, Any]:
    return {**celery_config(load_settings()), "beat_schedule": BEAT_SCHEDULE}


app = Celery(
    "nightshift",
    amqp="tasks.connections:PromptAMQP",
    events="tasks.connections:UnhurriedEvents",
    include=TASK_MODULES,
    set_as_current=True,
)
app.add_defaults(_config)


@setup_logging.connect
def _log_as_json(**_signal: Any) -> None:
    configure_logging(level=load_settings().log_level, process=_process_name(sys.argv))


@celeryd_init.connect
@beat_init.connect
def _observe(**_signal: Any) -> None:
    settings, process = load_settings(), _process_name(sys.argv)
    init_sentry(settings, process=process)
    init_tracing(settings, process=process)


@worker_process_shutdown.connect
@worker_shutdown.connect
def _send_what_is_left(**_signal: Any) -> None:
    close_tracing()


def _process_name(argv: list[str]) -> str:
    """What this process calls itself in its logs: its node name, or the Celery command it runs."""
    for place, argument in enumerate(argv):
        if argument in {"-n", "--hostname", "--queue"} and place + 1 < len(argv):
            return argv[place + 1].split("@")[0]
    known = [argument for argument in argv if argument in {"worker", "beat", "flower"}]
    return known[0] if known else "celery"
