"""Rows of ``files``. A file that is deleted or expired is not there for anybody but hygiene and live jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, insert, or_, select, tuple_, update

from app.db.repositories.stored_bytes import StoredBytes
from app.db.tables import files
from app.domain.files import File
from app.domain.pages import Page, page_of
from app.errors import NotFound

_COLUMNS = (
    files.c.id,
    files.c.tenant_id,
    files.c.purpose,
    files.c.filename,
    files.c.size_bytes,
    files.c.sha256,
    files.c.n_lines,
    files.c.object_key,
    files.c.job_id,
    files.c.created_at,
    files.c.expires_at,
)


class Files:
    """The files of tenants, in one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(
        self,
        *,
        file_id: str,
        tenant_id: str,
        purpose: str,
        filename: str,
        size_bytes: int,
        expires_after_s: int | None,
        sha256: str | None = None,
        n_lines: int | None = None,
        object_key: str | None = None,
        job_id: str | None = None,
    ) -> File:
        """Insert a file; exactly one of ``object_key`` and ``job_id`` says where its content is."""
        if object_key is not None:
            StoredBytes(self._connection).add(tenant_id, size_bytes)
        expires_at = None if expires_after_s is None else func.now() + timedelta(seconds=expires_after_s)
        inserted = self._connection.execute(
            insert(files)
            .values(
                id=file_id,
                tenant_id=tenant_id,
                purpose=purpose,
                filename=filename,
                size_bytes=size_bytes,
                sha256=sha256,
                n_lines=n_lines,
                object_key=object_key,
                job_id=job_id,
                expires_at=expires_at,
            )
            .returning(*_COLUMNS)
        )
        return File(**inserted.mappings().one())

    def get(self, tenant_id: str, file_id: str) -> File:
        """One file.

        Raises:
            NotFound: no such file, another tenant's, deleted or expired.
        """
        if "\0" in file_id:
            raise _not_found(file_id)
        query = select(*_COLUMNS).where(files.c.tenant_id == tenant_id, files.c.id == file_id, _is_there())
        row = self._connection.execute(query).mappings().one_or_none()
        if row is None:
            raise _not_found(file_id)
        return File(**row)

    def ever_was(self, file_id: str) -> bool:
        """Whether a row of that id exists, whatever became of the file."""
        return self._connection.execute(select(files.c.id).where(files.c.id == file_id)).one_or_none() is not None

    def list(
        self,
        tenant_id: str,
        *,
        limit: int,
        after: str | None = None,
        purpose: str | None = None,
        newest_first: bool = True,
    ) -> Page[File]:
        """A tenant's files by creation time.

        Args:
            after: id of the last file of the page before; one that was deleted since still marks its place.
        Raises:
            NotFound: the tenant never had a file ``after``.
        """
        query = select(*_COLUMNS).where(files.c.tenant_id == tenant_id, _is_there())
        if purpose is not None:
            query = query.where(files.c.purpose == purpose)
        if after is not None:
            query = self._behind(query, tenant_id, after, newest_first=newest_first)
        order = [files.c.created_at, files.c.id]
        query = query.order_by(*(column.desc() if newest_first else column.asc() for column in order))
        rows = self._connection.execute(query.limit(limit + 1)).mappings()
        return page_of([File(**row) for row in rows], limit)

    def delete(self, tenant_id: str, file_id: str) -> None:
        """Take a file away from its tenant; the row stays, and its content until no live job needs it.

        Raises:
            NotFound: no such file, another tenant's, deleted or expired.
        """
        if "\0" in file_id:
            raise _not_found(file_id)
        deleted = self._connection.execute(
            update(files)
            .where(files.c.tenant_id == tenant_id, files.c.id == file_id, _is_there())
            .values(deleted_at=func.now())
            .returning(files.c.size_bytes, files.c.object_key)
        ).one_or_none()
        if deleted is None:
            raise _not_found(file_id)
        if deleted.object_key is not None:
            StoredBytes(self._connection).add(tenant_id, -deleted.size_bytes)

    def delete_of_job(self, tenant_id: str, job_id: str) -> None:
        """Take the output and error files of a job away from its tenant."""
        own = (files.c.tenant_id == tenant_id, files.c.job_id == job_id, files.c.deleted_at.is_(None))
        self._connection.execute(update(files).where(*own).values(deleted_at=func.now()))

    def _behind(self, query: Select[Any], tenant_id: str, after: str, *, newest_first: bool) -> Select[Any]:
        mark = self._connection.execute(
            select(files.c.created_at, files.c.id).where(files.c.tenant_id == tenant_id, files.c.id == after)
        ).one_or_none()
        if mark is None:
            raise _not_found(after, param="after")
        place = tuple_(files.c.created_at, files.c.id)
        return query.where(place < tuple(mark) if newest_first else place > tuple(mark))


def _is_there() -> ColumnElement[bool]:
    return and_(files.c.deleted_at.is_(None), or_(files.c.expires_at.is_(None), files.c.expires_at > func.now()))


def _not_found(file_id: str, *, param: str = "id") -> NotFound:
    return NotFound(f"there is no file {file_id[:80]!r}", param=param)
