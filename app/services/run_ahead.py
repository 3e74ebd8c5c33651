"""Run a chunk and those granted behind it, each begun while the one before is being finished.

The broker gives a worker its next message only when a task has ended, and from the last micro-batch of a chunk to the
first of the next the device would wait for an upload, a commit, a delivery, a claim and a read. So a task goes on
with the next chunk of its job that was granted to its queue, as soon as all items of its own are read.

The message of that chunk stays in the queue meanwhile. Where this process dies, its successor gets that message and
takes the chunk over as any other; where all goes well, the message finds the chunk done.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from app.db.repositories.chunks import Chunks
from app.errors import DatabaseUnavailable
from app.services.run_chunk import Ran, run_chunk
from app.wiring import Wiring

MOST_S = 120.0
"""A task begins nothing more after so long: its message must be acknowledged well within the consumer timeout."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """A chunk that runs in a thread."""

    ran: Future[Ran]
    was_read: threading.Event = field(default_factory=threading.Event)
    """Set once all its items are read, or it has ended."""


def run_ahead(*, wiring: Wiring, chunk_id: int, queue: str, is_leaving: Callable[[], bool], **options: Any) -> Ran:
    """Run a chunk that was granted to ``queue``, and go on; at most two chunks are held at once.

    Args:
        options: of ``run_chunk``.
    Returns:
        How the run of the first ended.
    """
    run = partial(run_chunk, wiring=wiring, queue=queue, is_leaving=is_leaving, **options)
    ends_at_s = time.monotonic() + MOST_S
    with ThreadPoolExecutor(2, thread_name_prefix="chunk") as pool:
        first = current = _begin(pool, run, chunk_id)
        before: _Running | None = None
        while True:
            current.was_read.wait()
            if before is not None:
                before.ran.result()
            if is_leaving() or time.monotonic() > ends_at_s:
                break
            following = _next_granted(wiring, queue=queue, behind=chunk_id)
            if following is None:
                break
            before, current = current, _begin(pool, partial(run, is_ahead=True), following)
        current.ran.result()
    return first.ran.result()


def _begin(pool: ThreadPoolExecutor, run: Callable[..., Ran], chunk_id: int) -> _Running:
    was_read = threading.Event()
    ids = contextvars.copy_context()
    future = pool.submit(ids.run, partial(run, chunk_id=chunk_id, when_read=was_read.set))
    future.add_done_callback(lambda _: was_read.set())
    return _Running(future, was_read)


def _next_granted(wiring: Wiring, *, queue: str, behind: int) -> int | None:
    try:
        with wiring.database.begin() as connection:
            return Chunks(connection).next_granted(queue, behind=behind)
    except DatabaseUnavailable:
        log.warning("nothing_run_ahead", queue=queue)
        return None
