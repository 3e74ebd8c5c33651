"""Put the parts of an upload together: one object, hashed and counted as it is written, and one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast
from uuid import uuid4

from sqlalchemy import Connection

from app.db.repositories.files import Files
from app.db.repositories.uploads import Uploads
from app.domain.byte_ranges import Content, Segment
from app.domain.ids import new_id
from app.domain.line_count import LineCounter
from app.domain.uploads import (
    PartedUpload,
    UploadDetails,
    UploadPart,
    UploadStatus,
    check_takes_parts,
    chosen_parts,
    is_completed_with,
)
from app.errors import InvalidRequest, NotFound
from app.ports import StoredObject
from app.services.answer_once import Once
from app.services.discard_object import discard_object, discarded_unless_named
from app.services.storage_quota import check_storage
from app.services.tenant_quotas import tenant_quota
from app.storage.reading import read_content
from app.wiring import Wiring


def complete_upload(
    *,
    wiring: Wiring,
    tenant_id: str,
    upload_id: str,
    part_ids: Sequence[str],
    md5: str | None,
    once: Once[UploadDetails] | None = None,
) -> UploadDetails:
    """Make a file of parts, in the order of ``part_ids``. Completing again with the same parts is no error.

    Args:
        md5: what the content must hash to, as hex; None to take it as it is.
    Raises:
        NotFound: no such upload, or another tenant's.
        StateConflict: it is cancelled, expired, or completed with other parts.
        InvalidRequest: the parts, their size or their md5 are not what was announced.
        StorageQuotaExceeded: the tenant has no room for the file; it may be completed once there is.
        StorageUnavailable: nothing was made.
    """
    with wiring.database.begin() as connection:
        upload, parts = _chosen(connection, tenant_id, upload_id, part_ids)
        if upload.status is UploadStatus.COMPLETED:
            return _answer(connection, upload, once)
    key = f"files/{tenant_id}/{uuid4().hex}"
    source = _Joined(wiring, parts)
    stored = wiring.storage.put(key, cast("BinaryIO", source), size_bytes=upload.size_bytes)
    with discarded_unless_named(wiring.storage, key):
        _check_md5(md5, source)
        details = _complete(wiring, tenant_id, upload_id, part_ids, source, stored, once)
    if details.file is None or details.file.object_key != key:
        discard_object(wiring.storage, key)
    return details


def _chosen(
    connection: Connection, tenant_id: str, upload_id: str, part_ids: Sequence[str]
) -> tuple[PartedUpload, list[UploadPart]]:
    """The upload, its row locked, and the parts that were asked for."""
    uploads = Uploads(connection)
    upload = uploads.lock(tenant_id, upload_id)
    parts = uploads.parts(upload.id)
    if upload.status is UploadStatus.COMPLETED and is_completed_with(parts, part_ids):
        return upload, []
    check_takes_parts(upload)
    return upload, chosen_parts(upload, parts, part_ids)


def _complete(
    wiring: Wiring,
    tenant_id: str,
    upload_id: str,
    part_ids: Sequence[str],
    source: _Joined,
    stored: StoredObject,
    once: Once[UploadDetails] | None,
) -> UploadDetails:
    with wiring.database.begin() as connection:
        upload, _ = _chosen(connection, tenant_id, upload_id, part_ids)
        if upload.status is UploadStatus.COMPLETED:  # by another request, meanwhile
            return _answer(connection, upload, once)
        quota = tenant_quota(connection, wiring.settings, tenant_id=tenant_id)
        file = Files(connection).add(
            file_id=new_id("file-"),
            tenant_id=tenant_id,
            purpose=upload.purpose,
            filename=upload.filename,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            n_lines=source.lines.n_lines,
            object_key=stored.key,
            expires_after_s=quota.life_s(upload.file_expires_after_s or wiring.settings.file_retention_s),
        )
        check_storage(connection, wiring.settings, tenant_id=tenant_id, new_bytes=stored.size_bytes, is_counted=True)
        uploads = Uploads(connection)
        uploads.place_parts(part_ids)
        upload = uploads.update(upload.id, status=UploadStatus.COMPLETED, file_id=file.id)
        return _answer(connection, upload, once)


def _answer(connection: Connection, upload: PartedUpload, once: Once[UploadDetails] | None) -> UploadDetails:
    """The completed upload with its file, unless that has been deleted since."""
    try:
        details = UploadDetails(upload, Files(connection).get(upload.tenant_id, upload.file_id or ""))
    except NotFound:
        details = UploadDetails(upload)
    if once is not None:
        once.keep(connection, details)
    return details


def _check_md5(wanted: str | None, source: _Joined) -> None:
    found = source.md5.hexdigest()
    if wanted is not None and wanted.lower() != found:
        raise InvalidRequest(f"The content has the md5 {found}, not the one that was sent.", param="md5")


class _Joined:
    """Parts as one byte stream, hashed and counted by the way."""

    def __init__(self, wiring: Wiring, parts: Sequence[UploadPart]) -> None:
        content = Content(tuple(Segment(part.object_key, 0, part.size_bytes) for part in parts))
        self._blocks: Iterator[bytes] = read_content(wiring.storage, content)
        self._rest = b""
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.lines = LineCounter()

    def read(self, size: int = -1, /) -> bytes:
        """Return up to ``size`` bytes, b"" at the end; a negative size gives what comes next."""
        data = self._rest or next(self._blocks, b"")
        wanted, self._rest = (data, b"") if size < 0 else (data[:size], data[size:])
        self.md5.update(wanted)
        self.lines.feed(wanted)
        return wanted
