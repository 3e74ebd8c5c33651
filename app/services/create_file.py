"""Take in an upload: the content goes to the object store first, then the row makes it a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast
from uuid import uuid4

import structlog

from app.db.repositories.files import Files
from app.domain.files import File
from app.domain.ids import new_id
from app.errors import RequestTooLarge, StorageUnavailable
from app.ports import StoredObject
from app.wiring import Wiring

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """What the client says about a file beside its content."""

    purpose: str
    expires_after_s: int | None = None


class Upload(Protocol):
    """A file that is still arriving."""

    filename: str
    content: BinaryIO

    def finish(self) -> FileOptions:
        """Read what follows the content; its fields may come before or behind it.

        Raises:
            InvalidRequest: a field is wrong or missing, or the upload broke off.
        """
        ...


def create_file(*, wiring: Wiring, tenant_id: str, upload: Upload) -> File:
    """Store an upload as a file of the tenant; a broken upload leaves no file.

    Raises:
        InvalidRequest: see ``Upload.finish``.
        RequestTooLarge: the content is above the limit.
        StorageUnavailable: nothing was stored.
    """
    key = f"files/{tenant_id}/{uuid4().hex}"
    limited = cast("BinaryIO", _LimitedSource(upload.content, wiring.settings.max_file_bytes))
    stored = wiring.storage.put(key, limited)
    try:
        options = upload.finish()
        return _add_row(wiring, tenant_id, upload.filename, options, stored)
    except Exception:
        _discard(wiring, key)
        raise


def _add_row(wiring: Wiring, tenant_id: str, filename: str, options: FileOptions, stored: StoredObject) -> File:
    with wiring.database.begin() as connection:
        return Files(connection).add(
            file_id=new_id("file-"),
            tenant_id=tenant_id,
            purpose=options.purpose,
            filename=filename,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            object_key=stored.key,
            expires_after_s=options.expires_after_s or wiring.settings.file_retention_s,
        )


def _discard(wiring: Wiring, key: str) -> None:
    """Delete an object that no row names; where that fails hygiene sweeps it later."""
    try:
        wiring.storage.delete([key])
    except StorageUnavailable as error:
        log.warning("upload_left_an_orphan", object_key=key, reason=error.message)


class _LimitedSource:
    """Passes a source on up to a limit."""

    def __init__(self, source: BinaryIO, limit: int) -> None:
        self._source = source
        self._limit = limit
        self._seen = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._source.read(size)
        self._seen += len(data)
        if self._seen > self._limit:
            raise RequestTooLarge(f"the file is larger than {self._limit} bytes; split it", param="file")
        return data
