"""Read content that lies in several objects as one stream."""

from __future__ import annotations

from collections.abc import Iterator

from app.domain.byte_ranges import Content
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
