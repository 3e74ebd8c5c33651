"""Read out of the object store in flat memory: content that lies in several objects, lines of a part."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from app.domain.byte_ranges import Content, Segment
from app.domain.result_pages import PartSlice
from app.ports import ObjectStore

BLOCK_BYTES = 256 * 1024


def read_content(storage: ObjectStore, content: Content) -> Iterator[bytes]:
    """Give the bytes of ``content`` block by block, one object open at a time.

    Raises:
        ObjectMissing, StorageUnavailable: the stream ends there; what came before is right but not all.
    """
    for segment in content.segments:
        with storage.open(segment.object_key, start=segment.start, length=segment.length) as reader:
            while block := reader.read(BLOCK_BYTES):
                yield block


def read_lines(storage: ObjectStore, piece: PartSlice) -> Iterator[bytes]:
    """Give lines of a result part, each with its line end.

    Raises:
        ObjectMissing, StorageUnavailable: as above.
    """
    whole = Content((Segment(piece.part.object_key, 0, piece.part.size_bytes),))
    yield from islice(_split(read_content(storage, whole)), piece.skip, piece.skip + piece.take)


def _split(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Lines of a stream in which every line has its line end."""
    rest = b""
    for block in blocks:
        *lines, rest = (rest + block).split(b"\n")
        yield from (line + b"\n" for line in lines)
