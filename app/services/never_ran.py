"""Result lines of items that never ran because their job was cancelled or its window closed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

import structlog

from app.domain.chunks import Chunk, ItemSpan, NewPart
from app.domain.input_lines import parse_object
from app.domain.jobs import Job
from app.domain.result_lines import LineContext, never_ran_line
from app.domain.states import STOPPED_CHUNK
from app.errors import ObjectMissing
from app.ports import ObjectStore
from app.services.chunk_input import read_chunk_lines
from app.storage.line_stream import LineStream

log = structlog.get_logger(__name__)


def store_never_ran(*, storage: ObjectStore, job: Job, chunks: Sequence[Chunk], max_line_bytes: int) -> list[NewPart]:
    """Store a line for each item of chunks that were stopped; one object per outcome, however many chunks.

    Raises:
        StorageUnavailable: what was stored has no row and will be swept.
    """
    parts = []
    for outcome, state in STOPPED_CHUNK.items():
        stopped = [chunk for chunk in chunks if chunk.state is state]
        if stopped:
            lines = LineStream(_lines(storage, job, stopped, outcome, max_line_bytes))
            key = f"parts/{job.tenant_id}/{job.id}/{outcome}-{secrets.token_hex(8)}.jsonl"
            stored = storage.put(key, cast("BinaryIO", lines))
            parts.append(
                NewPart(
                    outcome=outcome,
                    object_key=stored.key,
                    size_bytes=stored.size_bytes,
                    n_items=lines.n_lines,
                    sha256=stored.sha256,
                )
            )
    return parts


def _lines(
    storage: ObjectStore, job: Job, chunks: Sequence[Chunk], outcome: str, max_line_bytes: int
) -> Iterator[bytes]:
    context = LineContext(job.dialect, job.id, job.model_version)
    for chunk in chunks:
        for span, custom_id in _items(storage, job, chunk, max_line_bytes):
            yield never_ran_line(
                context, index=span.index, custom_id=custom_id, outcome=outcome, attempts=span.attempts
            )


def _items(storage: ObjectStore, job: Job, chunk: Chunk, max_line_bytes: int) -> Iterator[tuple[ItemSpan, str]]:
    """Each item and its ``custom_id``. Where the store lost the input they go by their lines: the job must end."""
    n_read = 0
    lines = read_chunk_lines(storage=storage, input_key=job.input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    try:
        for span, line in lines:
            n_read += 1
            parsed, _ = parse_object(line.data or b"")
            yield span, (parsed or {}).get("custom_id", _by_line(span))
    except ObjectMissing:
        if n_read:
            raise  # half of them are named already; the next try meets the loss at once
        log.exception("input_lost", job_id=job.id, chunk_id=chunk.id)
        yield from ((span, _by_line(span)) for span in chunk.spans or _places(chunk))


def _places(chunk: Chunk) -> Iterator[ItemSpan]:
    for index in range(chunk.first_index, chunk.first_index + chunk.n_items):
        yield ItemSpan(index=index, offset=chunk.byte_start, size_bytes=0, attempts=0)


def _by_line(span: ItemSpan) -> str:
    return f"line {span.index + 1}"
