"""Take back an object whose row was not made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from app.errors import DatabaseUnavailable, StorageUnavailable
from app.ports import ObjectStore

log = structlog.get_logger(__name__)


@contextmanager
def discarded_unless_named(storage: ObjectStore, key: str) -> Iterator[None]:
    """Delete the object if the block, which commits the row that names it, fails.

    Not where the database broke off: its commit may have taken place. What is left is swept with the orphans.
    """
    try:
        yield
    except DatabaseUnavailable:
        raise
    except Exception:
        discard_object(storage, key)
        raise


def discard_object(storage: ObjectStore, key: str) -> None:
    """Delete an object that no row names; where that fails hygiene sweeps it later."""
    try:
        storage.delete([key])
    except StorageUnavailable as error:
        log.warning("orphan_left", object_key=key, reason=error.message)
