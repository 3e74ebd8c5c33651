"""Announce a file that will arrive in parts."""

from __future__ import annotations

from app.db.repositories.stored_bytes import StoredBytes
from app.db.repositories.uploads import Uploads
from app.domain.ids import new_id
from app.domain.uploads import UPLOAD_PREFIX, UploadDetails, UploadRequest
from app.errors import RequestTooLarge
from app.services.answer_once import Once
from app.services.storage_quota import check_storage
from app.wiring import Wiring


def create_upload(
    *, wiring: Wiring, tenant_id: str, request: UploadRequest, once: Once[UploadDetails] | None = None
) -> UploadDetails:
    """Make an upload that takes parts for ``upload_life_s``.

    Raises:
        RequestTooLarge: more bytes were announced than a file may have.
        StorageQuotaExceeded: the tenant has no room for them beside what it stores and has announced.
    """
    limit = wiring.settings.max_upload_bytes
    if request.size_bytes > limit:
        message = f"The file is to have {request.size_bytes} bytes, {limit} at most; split it."
        raise RequestTooLarge(message, param="bytes")
    values = {
        "id": new_id(UPLOAD_PREFIX),
        "tenant_id": tenant_id,
        "purpose": request.purpose,
        "filename": request.filename,
        "mime_type": request.mime_type,
        "size_bytes": request.size_bytes,
        "file_expires_after_s": request.file_expires_after_s,
    }
    with wiring.database.begin() as connection:
        StoredBytes(connection).take_turns(tenant_id)
        uploads = Uploads(connection)
        to_come = uploads.announced_bytes(tenant_id) + request.size_bytes
        check_storage(connection, wiring.settings, tenant_id=tenant_id, new_bytes=to_come)
        made = UploadDetails(uploads.insert(life_s=wiring.settings.upload_life_s, values=values))
        if once is not None:
            once.keep(connection, made)
        return made
