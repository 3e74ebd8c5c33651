"""Files, and uploads in parts that become files."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    false,
    text,
)

from app.db.tables.columns import metadata, moment, tenant_id

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text),
    # Up to the last that is not blank; null where nobody counted.
    Column("n_lines", BigInteger),
    # An uploaded file is one object; an output or error file is the parts of a job, read in their order.
    Column("object_key", Text),
    Column("job_id", Text, ForeignKey("jobs.id")),
    moment("created_at", now=True),
    moment("expires_at"),
    moment("deleted_at"),
    Column("swept", Boolean, nullable=False, server_default=false()),
    CheckConstraint("(object_key IS NULL) <> (job_id IS NULL)", name="one_source"),
    Index("ix_files_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_files_expires_at", "expires_at", postgresql_where=text("NOT swept")),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("mime_type", Text, nullable=False),
    # What its parts must come to.
    Column("size_bytes", BigInteger, nullable=False),
    Column("file_expires_after_s", Integer),
    # pending, completed or cancelled; one that is pending past ``expires_at`` is expired.
    Column("status", Text, nullable=False, server_default="pending"),
    Column("file_id", Text, ForeignKey("files.id")),
    moment("created_at", now=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("parts_swept", Boolean, nullable=False, server_default=false()),
    Index("ix_uploads_expires_at", "expires_at", postgresql_where=text("NOT parts_swept")),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("upload_id", Text, ForeignKey("uploads.id"), nullable=False),
    Column("object_key", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    # Its place in the file; null where the upload was completed without it, or not yet.
    Column("ordinal", Integer),
    moment("created_at", now=True),
    Index("ix_upload_parts_upload_id", "upload_id"),
)
