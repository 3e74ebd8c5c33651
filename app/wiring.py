"""The composition root: builds the collaborators of a process from its settings, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

from app.db.session import Database
from app.ports import DeathNotes, ItemRunner, ObjectStore
from app.services.count_stats import KnownStats
from app.services.explain_waiting import KnownOutlooks
from app.storage.s3 import S3Store
from app.webhooks.sender import WebhookSender
from config.models import ModelSpec, load_models
from config.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Wiring:
    """What services need, in one place. Create it after any fork: it holds connections."""

    settings: Settings
    models: Mapping[str, ModelSpec]
    database: Database
    storage: ObjectStore
    webhook_sender: WebhookSender
    outlooks: KnownOutlooks = field(default_factory=KnownOutlooks)
    stats: KnownStats = field(default_factory=KnownStats)


def build_wiring(settings: Settings) -> Wiring:
    """Make the collaborators; nothing is contacted yet."""
    database = Database.connect(
        settings.database_url,
        connect_timeout_s=settings.connect_timeout_s,
        statement_timeout_s=settings.statement_timeout_s,
    )
    return Wiring(
        settings=settings,
        models=load_models(settings.models_file),
        database=database,
        storage=S3Store.from_settings(settings),
        webhook_sender=WebhookSender.from_settings(settings),
    )


@cache
def process_wiring() -> Wiring:
    """The wiring of this process, made at first use from its environment."""
    return build_wiring(load_settings())


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """What makes a process a GPU worker: its engines, and who it is when it claims a chunk."""

    runner: ItemRunner
    queue: str
    incarnation: str
    """Names this very process: ``host:pid:start``; a restart gets another."""
    is_leaving: Callable[[], bool]
    """Whether this process was told to end; asked between micro-batches."""
    death_notes: DeathNotes


_worker_process: WorkerProcess | None = None


def set_worker_process(worker: WorkerProcess) -> None:
    """Make this process a GPU worker; done once, after the fork."""
    global _worker_process  # noqa: PLW0603 - one per process, like the wiring
    _worker_process = worker


def worker_process() -> WorkerProcess:
    """What this process is as a GPU worker.

    Raises:
        RuntimeError: it is none; a chunk was sent to the wrong queue.
    """
    if _worker_process is None:
        raise RuntimeError("this process holds no engines: chunk tasks belong on a device queue")
    return _worker_process
