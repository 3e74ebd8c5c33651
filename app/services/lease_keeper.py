"""Keeps a chunk's lease alive while the engine works, and notices when it is lost."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import structlog

from app.db.repositories.chunks import Chunks
from app.db.session import Database
from app.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Renews a lease every third of its length, in a thread; ``is_lost`` once another worker took it over.

    A database that does not answer loses nothing yet: whether the lease is still ours is decided by the guarded
    write at the end.
    """

    def __init__(self, database: Database, *, chunk_id: int, token: str, lease_s: float) -> None:
        self._database = database
        self._chunk_id = chunk_id
        self._token = token
        self._lease_s = lease_s
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lease-{chunk_id}", daemon=True)

    def is_lost(self) -> bool:
        """Whether the work is in vain."""
        return self._lost.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._done.wait(self._lease_s / 3):
            try:
                with self._database.begin() as connection:
                    held = Chunks(connection).renew(self._chunk_id, token=self._token, lease_s=self._lease_s)
            except DatabaseUnavailable:
                log.warning("lease_renewal_failed", chunk_id=self._chunk_id)
                continue
            if not held:
                log.warning("lease_lost", chunk_id=self._chunk_id)
                self._lost.set()
                return
