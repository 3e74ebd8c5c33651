"""The composition root: builds the collaborators of a process from its settings, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from app.db.session import Database
from app.ports import ItemRunner, ObjectStore
from app.storage.s3 import S3Store
from config.models import ModelSpec, load_models
from config.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Wiring:
    """What services need, in one place. Create it after any fork: it holds connections."""

    settings: Settings
    models: Mapping[str, ModelSpec]
    database: Database
    storage: ObjectStore


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
    )


@cache
def process_wiring() -> Wiring:
    """The wiring of this process, made at first use from its environment."""
    return build_wiring(load_settings())


_item_runner: ItemRunner | None = None


def set_item_runner(runner: ItemRunner) -> None:
    """Tell the core which engines this process holds; a GPU worker does so when it starts."""
    global _item_runner  # noqa: PLW0603 - one per process, like the wiring
    _item_runner = runner


def item_runner() -> ItemRunner:
    """The engines of this process.

    Raises:
        RuntimeError: this process is not a GPU worker; a chunk was sent to the wrong queue.
    """
    if _item_runner is None:
        raise RuntimeError("this process holds no engines: chunk tasks belong on a device queue")
    return _item_runner
