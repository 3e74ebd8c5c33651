"""Reads the items of a chunk out of its job's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.chunks import Chunk, ItemSpan
from app.domain.input_lines import ItemDefaults, parse_object, read_item
from app.domain.items import InputItem, ItemErrorCode, ItemFailed
from app.domain.jsonl import Line, read_lines
from app.errors import StorageUnavailable
from app.ports import ObjectStore

GAP_BYTES = 64 * 1024
"""Two items nearer than this are read in one request; skipping is cheaper than asking again."""


@dataclass(frozen=True, slots=True)
class ReadItem:
    """One item of a chunk: where it stands, whose it is, and what is to run, or why it cannot."""

    span: ItemSpan
    custom_id: str
    item: InputItem | ItemFailed


def read_chunk_lines(
    *, storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int
) -> Iterator[tuple[ItemSpan, Line]]:
    """Stream the lines of a chunk with the place of each; memory holds one block and one line.

    Raises:
        StorageUnavailable: the input cannot be read now, or holds another number of lines there than was planned.
    """
    n_read = 0
    lines = _range_lines if chunk.spans is None else _span_lines
    for place in lines(storage, input_key, chunk, max_line_bytes):
        n_read += 1
        yield place
    if n_read != chunk.n_items:
        raise StorageUnavailable(f"{input_key} holds {n_read} of the {chunk.n_items} items of chunk {chunk.id}")


def chunk_spans(*, storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int) -> list[ItemSpan]:
    """Where each item of a chunk stands; the input is read only where the row does not say.

    Raises:
        StorageUnavailable: as ``read_chunk_lines``.
    """
    if chunk.spans is not None:
        return list(chunk.spans)
    lines = read_chunk_lines(storage=storage, input_key=input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    return [span for span, _ in lines]


def read_chunk_items(
    *, storage: ObjectStore, input_key: str, chunk: Chunk, defaults: ItemDefaults, max_line_bytes: int
) -> Iterator[ReadItem]:
    """Stream the items of a chunk; every line was checked when the job was planned."""
    lines = read_chunk_lines(storage=storage, input_key=input_key, chunk=chunk, max_line_bytes=max_line_bytes)
    for span, line in lines:
        parsed, why = parse_object(line.data or b"")
        if parsed is None:
            yield ReadItem(span, f"line {span.index + 1}", ItemFailed(span.index, ItemErrorCode.INVALID_JSON, why))
            continue
        item = read_item(parsed, index=span.index, attempt=span.attempts + 1, defaults=defaults)
        yield ReadItem(span, parsed["custom_id"], item)


def _range_lines(
    storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int
) -> Iterator[tuple[ItemSpan, Line]]:
    start, length = chunk.byte_start, chunk.byte_end - chunk.byte_start
    with storage.open(input_key, start=start, length=length) as reader:
        lines = read_lines(reader, max_line_bytes=max_line_bytes, start=start)
        for index, line in enumerate(lines, start=chunk.first_index):
            yield ItemSpan(index=index, offset=line.offset, size_bytes=line.size_bytes, attempts=0), line


def _span_lines(
    storage: ObjectStore, input_key: str, chunk: Chunk, max_line_bytes: int
) -> Iterator[tuple[ItemSpan, Line]]:
    for group in _neighbours(chunk.spans or ()):
        start, end = group[0].offset, group[-1].offset + group[-1].size_bytes
        wanted = {span.offset: span for span in group}
        with storage.open(input_key, start=start, length=end - start) as reader:
            for line in read_lines(reader, max_line_bytes=max_line_bytes, start=start):
                if line.offset in wanted:
                    yield wanted[line.offset], line


def _neighbours(spans: Sequence[ItemSpan]) -> Iterator[list[ItemSpan]]:
    """Group spans, in the order of the input, whose gaps are small."""
    group: list[ItemSpan] = []
    for span in sorted(spans, key=lambda span: span.offset):
        if group and span.offset - (group[-1].offset + group[-1].size_bytes) > GAP_BYTES:
            yield group
            group = []
        group.append(span)
    if group:
        yield group
