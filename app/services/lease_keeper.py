"""Keeps a chunk's lease alive while the engine works, and notices when the work should stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from app.db.repositories.chunks import Chunks
from app.db.session import Database
from app.domain.states import RUNNABLE_JOB_STATES, JobState
from app.domain.stops import Stop
from app.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 1.0
"""A renewal is one small statement, and how soon a cancel or a pause is heard of."""


class LeaseKeeper:
    """Renews a lease in a thread, at least at every third of its length, and looks at the job by the way.

    A database that does not answer loses nothing yet: whether the lease is still ours is decided by the guarded
    write at the end.
    """

    def __init__(
        self, database: Database, *, chunk_id: int, token: str, lease_s: float, is_leaving: Callable[[], bool]
    ) -> None:
        """Keep nothing yet: enter the context to begin.

        Args:
            is_leaving: whether this worker process was told to end; asked between micro-batches.
        """
        self._database = database
        self._chunk_id = chunk_id
        self._token = token
        self._lease_s = lease_s
        self._is_leaving = is_leaving
        self._done = threading.Event()
        self._stop: Stop | None = None
        self._thread = threading.Thread(target=self._keep, name=f"lease-{chunk_id}", daemon=True)

    @property
    def stop(self) -> Stop | None:
        """Why the work should stop, None while it should go on."""
        return self._stop or (Stop.SHUTDOWN if self._is_leaving() else None)

    def give_up(self) -> None:
        """Let the work stop at the next micro-batch, because all that is left would meet the same refusal."""
        self._stop = self._stop or Stop.REFUSED

    def should_stop(self) -> bool:
        """Whether the work should stop at the next micro-batch."""
        return self.stop is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._done.wait(min(LOOK_EVERY_S, self._lease_s / 3)):
            try:
                with self._database.begin() as connection:
                    job = Chunks(connection).renew(self._chunk_id, token=self._token, lease_s=self._lease_s)
            except DatabaseUnavailable:
                log.warning("lease_renewal_failed", chunk_id=self._chunk_id)
                continue
            except Exception:  # the next try may do better; this thread is all that keeps the lease
                log.exception("lease_renewal_failed", chunk_id=self._chunk_id)
                continue
            if job is None:
                log.warning("lease_lost", chunk_id=self._chunk_id)
                self._stop = Stop.LEASE_LOST
                return
            # Once said it stays said: the engine may have stopped for a pause that is over by now.
            self._stop = self._stop or _stop_of(*job)


def _stop_of(state: JobState, stop_reason: str | None) -> Stop | None:
    if stop_reason is not None:
        return Stop.JOB_STOPPED
    return None if state in RUNNABLE_JOB_STATES else Stop.JOB_SET_ASIDE
