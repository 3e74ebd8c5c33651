"""Take in an upload: the content goes to the object store first, then the row makes it a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO, Protocol, cast
from uuid import uuid4

from app.db.repositories.files import Files
from app.domain.files import File
from app.domain.ids import new_id
from app.ports import StoredObject
from app.services.answer_once import Once
from app.services.discard_object import discarded_unless_named
from app.services.limited_source import LimitedSource, drained_sha256
from app.services.storage_quota import check_storage
from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring


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


def create_file(*, wiring: Wiring, tenant_id: str, upload: Upload, once: Once[File] | None = None) -> File:
    """Store an upload as a file of the tenant; a broken upload leaves no file.

    Raises:
        InvalidRequest: see ``Upload.finish``.
        RequestTooLarge: the content is above the limit.
        StorageQuotaExceeded: the tenant has no room for it.
        StorageUnavailable: nothing was stored.
    """
    key = f"files/{tenant_id}/{uuid4().hex}"
    limit = wiring.settings.max_file_bytes
    too_large = f"the file is larger than {limit} bytes; send it in parts, with POST /v1/uploads"
    source = LimitedSource(upload.content, limit, too_large=too_large, param="file")
    limited = cast("BinaryIO", source)
    if once is not None and once.is_repeat:
        once.repeat(_repeat_digest(upload, limited))
    with wiring.database.begin() as connection:
        check_storage(connection, wiring.settings, tenant_id=tenant_id)
    stored = wiring.storage.put(key, limited)
    with discarded_unless_named(wiring.storage, key):
        return _add_file(wiring, tenant_id, upload, stored, once, n_lines=source.lines.n_lines)


def _add_file(
    wiring: Wiring, tenant_id: str, upload: Upload, stored: StoredObject, once: Once[File] | None, *, n_lines: int
) -> File:
    options = upload.finish()
    with wiring.database.begin() as connection:
        quota = tenant_quota(connection, wiring.settings, tenant_id=tenant_id)
        file = Files(connection).add(
            file_id=new_id("file-"),
            tenant_id=tenant_id,
            purpose=options.purpose,
            filename=upload.filename,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            n_lines=n_lines,
            object_key=stored.key,
            expires_after_s=quota.life_s(options.expires_after_s or wiring.settings.file_retention_s),
        )
        check_storage(connection, wiring.settings, tenant_id=tenant_id, new_bytes=stored.size_bytes, is_counted=True)
        if once is not None:
            once.keep(connection, file, body_sha256=_request_digest(upload.filename, stored.sha256, options))
        return file


def _request_digest(filename: str, sha256: str, options: FileOptions) -> bytes:
    """What makes two uploads the same: their content, name and options; not how the form is written."""
    parts = (filename, sha256, options.purpose, str(options.expires_after_s))
    return hashlib.sha256("\0".join(parts).encode()).digest()


def _repeat_digest(upload: Upload, content: BinaryIO) -> bytes:
    sha256 = drained_sha256(content)
    return _request_digest(upload.filename, sha256, upload.finish())
