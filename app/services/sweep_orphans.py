"""Delete what no row names: parts of a worker that lost its lease, uploads whose process died in the middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import structlog

from app.db.repositories.hygiene import Hygiene
from app.ports import ListedObject
from app.wiring import Wiring

log = structlog.get_logger(__name__)
# Where the server makes keys. The inbox is not ours to sweep.
PREFIXES = ("files/", "inputs/", "parts/", "uploads/")
AT_ONCE = 500


def sweep_orphans(*, wiring: Wiring) -> int:
    """Delete what is older than ``orphan_age_s`` and named by no row; returns how many objects and begun uploads.

    A key is made fresh for every upload and every attempt and named within minutes or never, so an object that
    nothing names at that age is never named later.

    Raises:
        StorageUnavailable, DatabaseUnavailable: the next sweep goes on.
    """
    with wiring.database.begin() as connection:
        cutoff = Hygiene(connection).cutoff(wiring.settings.orphan_age_s)
    old = (item for prefix in PREFIXES for item in wiring.storage.list(prefix) if item.modified_at < cutoff)
    n_swept = sum(_sweep(wiring, group) for group in _groups(old))
    n_aborted = sum(wiring.storage.abort_uploads(prefix, before=cutoff) for prefix in PREFIXES)
    if n_swept or n_aborted:
        log.info("orphans_swept", n_objects=n_swept, n_uploads=n_aborted)
    return n_swept + n_aborted


def _groups(items: Iterator[ListedObject]) -> Iterator[list[ListedObject]]:
    while group := list(islice(items, AT_ONCE)):
        yield group


def _sweep(wiring: Wiring, group: Iterable[ListedObject]) -> int:
    keys = [item.key for item in group]
    with wiring.database.begin() as connection:
        named = Hygiene(connection).named(keys)
    orphans = [key for key in keys if key not in named]
    if orphans:
        wiring.storage.delete(orphans)
    return len(orphans)
