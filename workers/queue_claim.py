"""One live worker for each queue: a second one does not start, and says who has the queue.

Two workers on one queue do no harm, because every chunk is claimed in Postgres; but each would be shown as the other,
and neither could be drained. On this host the kernel knows whether a process lives; of other hosts the heartbeats tell.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from pathlib import Path
from typing import IO

import structlog

from app.db.repositories.workers import Workers
from app.db.session import Database
from app.errors import DatabaseUnavailable, QueueTaken
from config.settings import Settings

LOCK_WAIT_S = 5.0
"""A worker that was killed a moment ago may still be on its way out."""
LOOK_EVERY_S = 0.5

log = structlog.get_logger(__name__)


def claim_queue(queue: str, settings: Settings) -> IO[str]:
    """Wait until no other live worker has the queue; the answer must be kept open for as long as this one lives.

    Raises:
        QueueTaken: one is alive and stays so.
    """
    lock = _lock_on_host(queue, settings.database_url)
    try:
        _wait_for_other_hosts(queue, settings)
    except DatabaseUnavailable:
        log.warning("queue_claim_unchecked", queue=queue)  # the first heartbeat that gets through checks again
    return lock


def _lock_on_host(queue: str, database_url: str) -> IO[str]:
    """Hold a file that the kernel lets go of with the last process of this worker."""
    installation = hashlib.sha256(database_url.encode()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}-{installation}-{queue}.lock"
    file = path.open("a+", encoding="utf-8")
    give_up_at = time.monotonic() + LOCK_WAIT_S
    while not _locked(file):
        if time.monotonic() > give_up_at:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise QueueTaken(f"{queue} is served by {holder} on this host: stop it, or give this worker another queue")
        time.sleep(LOOK_EVERY_S)
    file.truncate(0)
    file.write(f"process {os.getpid()}")
    file.flush()
    return file


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for_other_hosts(queue: str, settings: Settings) -> None:
    """Return once no other host's worker was heard within the silence; refuse as soon as one is heard again."""
    database = Database.connect(settings.database_url, connect_timeout_s=settings.connect_timeout_s, pool_size=1)
    first_heard_at = None
    try:
        while True:
            with database.begin() as connection:
                other = Workers(connection).on_other_host(
                    queue, host=settings.host_name, silence_s=settings.worker_silence_s
                )
            if other is None:
                return
            host, heard_at = other
            first_heard_at = first_heard_at or heard_at
            if heard_at > first_heard_at:
                raise QueueTaken(
                    f"{queue} is served by a live worker on the host {host}: stop that one, or give this one a queue "
                    "of its own; each host has its own numbers"
                )
            log.info("queue_waited_for", queue=queue, host=host)
            time.sleep(LOOK_EVERY_S)
    finally:
        database.close()
