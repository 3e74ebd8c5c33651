"""Take in one part of an upload: its content first, then the row that makes it a part."""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Protocol, cast
from uuid import uuid4

from app.db.repositories.uploads import Uploads
from app.domain.ids import new_id
from app.domain.uploads import PART_PREFIX, UploadPart, check_room_for_part, check_takes_parts
from app.ports import StoredObject
from app.services.answer_once import Once
from app.services.discard_object import discarded_unless_named
from app.services.limited_source import LimitedSource, drained_sha256
from app.wiring import Wiring

PREFIX = "uploads/"
"""Where parts lie until their upload is over."""


class ArrivingPart(Protocol):
    """A part that is still arriving."""

    content: BinaryIO

    def finish(self) -> None:
        """Read what follows the content.

        Raises:
            InvalidRequest: the form is malformed, or the request broke off.
        """
        ...


def add_upload_part(
    *,
    wiring: Wiring,
    tenant_id: str,
    upload_id: str,
    receive: Callable[[], ArrivingPart],
    once: Once[UploadPart] | None = None,
) -> UploadPart:
    """Store a part of a pending upload.

    Args:
        receive: begins to read the part; called once it is known that the upload takes it.
    Raises:
        NotFound: no such upload, or another tenant's.
        StateConflict: it takes no parts any more.
        RequestTooLarge: the part is above the limit, or there are far more bytes or parts than were announced.
        InvalidRequest: see ``ArrivingPart.finish``.
        StorageUnavailable: nothing was stored.
    """
    limit = wiring.settings.max_part_bytes
    if once is not None and once.is_repeat:
        part = receive()
        digest = drained_sha256(_limited(part.content, limit))
        part.finish()
        once.repeat(bytes.fromhex(digest))
    with wiring.database.begin() as connection:
        check_takes_parts(Uploads(connection).get(tenant_id, upload_id))
    part = receive()
    key = f"{PREFIX}{tenant_id}/{uuid4().hex}"
    stored = wiring.storage.put(key, _limited(part.content, limit))
    with discarded_unless_named(wiring.storage, key):
        part.finish()
        return _add(wiring, tenant_id, upload_id, stored, once)


def _limited(content: BinaryIO, limit: int) -> BinaryIO:
    too_large = f"the part is larger than {limit} bytes; cut the file into smaller ones"
    return cast("BinaryIO", LimitedSource(content, limit, too_large=too_large, param="data"))


def _add(
    wiring: Wiring, tenant_id: str, upload_id: str, stored: StoredObject, once: Once[UploadPart] | None
) -> UploadPart:
    with wiring.database.begin() as connection:
        uploads = Uploads(connection)
        upload = uploads.lock(tenant_id, upload_id)
        check_takes_parts(upload)
        check_room_for_part(upload, uploads.parts(upload.id).values(), stored.size_bytes)
        part = uploads.add_part(
            {
                "id": new_id(PART_PREFIX),
                "tenant_id": tenant_id,
                "upload_id": upload.id,
                "object_key": stored.key,
                "size_bytes": stored.size_bytes,
            }
        )
        if once is not None:
            once.keep(connection, part, body_sha256=bytes.fromhex(stored.sha256))
        return part
