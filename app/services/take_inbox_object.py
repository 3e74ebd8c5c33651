"""The inbox: objects that others put into the bucket for a schedule to find.

A tenant's inbox is ``inbox/<tenant id>/`` in the bucket. Objects there stay as they are. A schedule takes each
version of an object once: the file made of it has an id that follows from the schedule and the version, so the row
is the memory. Put an object again and it is taken again.
"""

from __future__ import annotations

import hashlib
from typing import BinaryIO, cast
from uuid import uuid4

from app.db.repositories.files import Files
from app.db.session import Database
from app.domain.files import BATCH_PURPOSE
from app.domain.schedules import Schedule
from app.errors import InvalidRequest
from app.ports import ListedObject
from app.services.storage_quota import check_storage
from app.services.tenant_quotas import tenant_quota
from app.wiring import Wiring

INBOX = "inbox/"
SUFFIX = ".jsonl"


def inbox_objects(*, wiring: Wiring, schedule: Schedule) -> dict[str, ListedObject]:
    """The ``.jsonl`` objects under a schedule's prefix, by the id of the file each becomes, in the order of keys."""
    prefix = inbox_prefix(schedule.tenant_id, schedule.source.prefix or "")
    listed = (item for item in wiring.storage.list(prefix) if item.key.endswith(SUFFIX))
    return {_file_id(schedule.id, item): item for item in listed}


def inbox_prefix(tenant_id: str, prefix: str) -> str:
    """Where a client's prefix lies in the bucket; the client may write ``inbox/`` before it or not."""
    return f"{INBOX}{tenant_id}/{prefix.removeprefix(INBOX)}"


def take_inbox_object(*, wiring: Wiring, tenant_id: str, file_id: str, item: ListedObject) -> None:
    """Make a file of an object by copying it, so that a later overwrite cannot change a job's input.

    Raises:
        InvalidRequest: it is larger than a file may be.
        StorageQuotaExceeded: the tenant has no room for it.
        StorageUnavailable: it was not copied.
    """
    if _exists(wiring.database, file_id):
        return
    if item.size_bytes > wiring.settings.max_file_bytes:
        raise InvalidRequest(f"{_name(item)} is larger than {wiring.settings.max_file_bytes} bytes; split it")
    with wiring.database.begin() as connection:
        quota = tenant_quota(connection, wiring.settings, tenant_id=tenant_id)
        check_storage(connection, wiring.settings, tenant_id=tenant_id, new_bytes=item.size_bytes)
    key = f"files/{tenant_id}/{uuid4().hex}"
    with wiring.storage.open(item.key) as source:
        stored = wiring.storage.put(key, cast("BinaryIO", source), size_bytes=item.size_bytes)
    with wiring.database.begin() as connection:
        Files(connection).add(
            file_id=file_id,
            tenant_id=tenant_id,
            purpose=BATCH_PURPOSE,
            filename=_name(item),
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            object_key=stored.key,
            expires_after_s=quota.life_s(wiring.settings.file_retention_s),
        )


def _exists(database: Database, file_id: str) -> bool:
    with database.begin() as connection:
        return Files(connection).ever_was(file_id)


def _file_id(schedule_id: str, item: ListedObject) -> str:
    version = f"{schedule_id}\n{item.key}\n{item.modified_at.isoformat()}\n{item.size_bytes}"
    return "file-" + hashlib.sha256(version.encode()).hexdigest()[:32]


def _name(item: ListedObject) -> str:
    return item.key.rpartition("/")[2]
