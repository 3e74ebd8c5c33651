"""Uploads in parts, and their parts. One that is pending past its time reads as expired."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, and_, case, func, select

from app.db.tables import upload_parts, uploads
from app.domain.uploads import PartedUpload, UploadPart, UploadStatus
from app.errors import NotFound

_STATUS = case(
    (
        and_(uploads.c.status == UploadStatus.PENDING, uploads.c.expires_at <= func.now()),
        UploadStatus.EXPIRED.value,
    ),
    else_=uploads.c.status,
).label("status")
_FIELDS = [_STATUS if spec.name == "status" else uploads.c[spec.name] for spec in dataclasses.fields(PartedUpload)]
_PART_FIELDS = [upload_parts.c[spec.name] for spec in dataclasses.fields(UploadPart)]


class Uploads:
    """Reads and changes uploads inside one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(self, *, life_s: int, values: dict[str, Any]) -> PartedUpload:
        """Add an upload; it is to be completed within ``life_s``."""
        expires_at = func.now() + timedelta(seconds=life_s)
        statement = uploads.insert().values(expires_at=expires_at, **values).returning(*_FIELDS)
        return _upload(self._connection.execute(statement).mappings().one())

    def get(self, tenant_id: str, upload_id: str) -> PartedUpload:
        """One upload of a tenant.

        Raises:
            NotFound: no such upload, or another tenant's.
        """
        return self._one(_of(tenant_id, upload_id), upload_id)

    def lock(self, tenant_id: str, upload_id: str) -> PartedUpload:
        """The same, its row locked until the end of the transaction."""
        return self._one(_of(tenant_id, upload_id).with_for_update(), upload_id)

    def update(self, upload_id: str, **values: Any) -> PartedUpload:
        """Change columns; gives the upload as it is now."""
        statement = uploads.update().where(uploads.c.id == upload_id).values(**values).returning(*_FIELDS)
        return _upload(self._connection.execute(statement).mappings().one())

    def announced_bytes(self, tenant_id: str) -> int:
        """What the tenant's uploads that still take parts are to come to."""
        takes_parts = (uploads.c.status == UploadStatus.PENDING, uploads.c.expires_at > func.now())
        query = select(func.coalesce(func.sum(uploads.c.size_bytes), 0))
        return int(self._connection.execute(query.where(uploads.c.tenant_id == tenant_id, *takes_parts)).scalar_one())

    def add_part(self, values: dict[str, Any]) -> UploadPart:
        """Add a part."""
        statement = upload_parts.insert().values(**values).returning(*_PART_FIELDS)
        return UploadPart(**self._connection.execute(statement).mappings().one())

    def parts(self, upload_id: str) -> dict[str, UploadPart]:
        """The parts of an upload by id."""
        query = select(*_PART_FIELDS).where(upload_parts.c.upload_id == upload_id)
        return {row["id"]: UploadPart(**row) for row in self._connection.execute(query).mappings()}

    def place_parts(self, part_ids: Sequence[str]) -> None:
        """Note the order in which parts became a file."""
        for ordinal, part_id in enumerate(part_ids):
            self._connection.execute(upload_parts.update().where(upload_parts.c.id == part_id).values(ordinal=ordinal))

    def over(self, limit: int, *, grace_s: int) -> list[str]:
        """Uploads whose parts nobody needs any more, nor reads: their time ended ``grace_s`` ago, however they did."""
        late = uploads.c.expires_at <= func.now() - timedelta(seconds=grace_s)
        query = select(uploads.c.id).where(~uploads.c.parts_swept, late)
        return list(self._connection.execute(query.limit(limit)).scalars())

    def part_keys(self, upload_id: str) -> list[str]:
        """Where the parts of an upload are stored."""
        query = select(upload_parts.c.object_key).where(upload_parts.c.upload_id == upload_id)
        return list(self._connection.execute(query).scalars())

    def mark_swept(self, upload_id: str) -> None:
        """Its parts are gone."""
        self._connection.execute(uploads.update().where(uploads.c.id == upload_id).values(parts_swept=True))

    def _one(self, query: Select[Any], upload_id: str) -> PartedUpload:
        row = None if "\0" in upload_id else self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"There is no upload {upload_id[:80]!r}.", param="id")
        return _upload(row)


def _of(tenant_id: str, upload_id: str) -> Select[Any]:
    conditions: tuple[ColumnElement[bool], ...] = (uploads.c.tenant_id == tenant_id, uploads.c.id == upload_id)
    return select(*_FIELDS).where(*conditions)


def _upload(row: RowMapping) -> PartedUpload:
    return PartedUpload(**{**row, "status": UploadStatus(row["status"])})
