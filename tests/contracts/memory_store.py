"""An object store in memory that promises what ``app.ports.ObjectStore`` promises; for tests only."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

from app.errors import ObjectMissing, StorageUnavailable
from app.ports import ListedObject, ObjectReader, StoredObject


class MemoryStore:
    """See ``ObjectStore`` for what each method promises."""

    def __init__(self) -> None:
        self._objects: dict[str, tuple[bytes, datetime]] = {}

    def put(self, key: str, source: BinaryIO, *, size_bytes: int | None = None) -> StoredObject:
        content = b"".join(iter(lambda: source.read(1 << 20), b""))
        if size_bytes is not None:
            if len(content) < size_bytes:
                raise StorageUnavailable(f"{key} ended {size_bytes - len(content)} bytes early")
            content = content[:size_bytes]
        self._objects[key] = (content, datetime.now(UTC))
        return StoredObject(key=key, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    @contextmanager
    def open(self, key: str, *, start: int = 0, length: int | None = None) -> Iterator[ObjectReader]:
        if length == 0:
            yield io.BytesIO()
            return
        if key not in self._objects:
            raise ObjectMissing(f"there is no object {key}")
        content = self._objects[key][0]
        if length is not None and len(content) < start + length:
            raise StorageUnavailable(f"{key} ends {start + length - len(content)} bytes early")
        yield io.BytesIO(content[start:] if length is None else content[start : start + length])

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._objects.pop(key, None)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        for key, (content, modified_at) in sorted(self._objects.items()):
            if key.startswith(prefix):
                yield ListedObject(key=key, size_bytes=len(content), modified_at=modified_at)

    def abort_uploads(self, prefix: str, *, before: datetime) -> int:  # noqa: ARG002 - the port names them
        """An upload here is complete or was never begun."""
        return 0

    def check(self) -> None:
        """Always there."""
