"""Read the results of a batch of messages, once it has ended."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from app.db.repositories.parts import Parts
from app.domain.ids import message_batch_id
from app.domain.jobs import Job, ResultPart
from app.domain.message_results import message_line
from app.domain.result_lines import native_fields
from app.domain.result_pages import PartSlice
from app.domain.states import TERMINAL_JOB_STATES, JobState
from app.errors import NotFound, StateConflict
from app.ports import ObjectStore
from app.services.message_batch_details import chat_job
from app.services.read_results import line_context
from app.storage.line_stream import LineStream
from app.storage.reading import read_lines
from app.wiring import Wiring

BLOCK_BYTES = 64 * 1024


def read_message_results(*, wiring: Wiring, tenant_id: str, job_id: str) -> Iterator[bytes]:
    """The line of every item, each with its line end, made as they are read; in blocks, as sending one by one is slow.

    Raises:
        NotFound: no such job, another tenant's, its items are no messages, or its results are past their life.
        StateConflict: it has not ended.
        ObjectMissing, StorageUnavailable: the stream ends there.
    """
    with wiring.database.snapshot() as connection:
        job = chat_job(connection, tenant_id=tenant_id, job_id=job_id)
        own_id, parts = message_batch_id(job.id), Parts(connection)
        if job.state not in TERMINAL_JOB_STATES:
            message = f"{own_id} has not ended, so it has no results yet; they come with 'results_url'."
            raise StateConflict(message, current=job.state, wanted=JobState.SUCCEEDED)
        if parts.are_expired(tenant_id, job.id):
            raise NotFound(f"The results of {own_id} were archived on {job.results_expire_at:%Y-%m-%d %H:%M} UTC.")
        lines = LineStream(_lines(wiring.storage, job, parts.list(tenant_id, job.id)))
        return iter(partial(lines.read, BLOCK_BYTES), b"")


def _lines(storage: ObjectStore, job: Job, parts: list[ResultPart]) -> Iterator[bytes]:
    context = line_context(job)
    for part in parts:
        for line in read_lines(storage, PartSlice(part, 0, part.n_items)):
            yield message_line(native_fields(line, outcome=part.outcome, context=context), job_id=job.id)
