"""Tenants, what they may and what they store, and their keys."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
)

from app.db.tables.columns import count, json, metadata, moment, quota, tenant_id

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    moment("created_at", now=True),
    # Quotas; null stands for the installation's default.
    *quota("weight", Float()),
    *quota("max_running_jobs", BigInteger()),
    *quota("max_chunks", BigInteger()),
    *quota("max_enqueued_tokens", BigInteger()),
    *quota("requests_per_minute", BigInteger()),
    *quota("max_storage_bytes", BigInteger()),
    *quota("retention_s", BigInteger()),
    *quota("budget", Numeric(18, 6)),
    # As of ``jobs``.
    count("changed_in"),
    Index("ix_tenants_changed_in", "changed_in"),
)

# Apart from ``tenants``, whose rows every insert of a tenant's row holds for its foreign key. The sum of both
# tables counts: uploads, inline inputs and results that are neither deleted nor swept.
tenant_storage = Table(
    "tenant_storage",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    # Changed by processes of before there were stripes.
    count("stored_bytes"),
)

# Several rows for each tenant, so that those who store at once seldom wait for one another.
tenant_storage_stripes = Table(
    "tenant_storage_stripes",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("stripe", SmallInteger, primary_key=True, autoincrement=False),
    count("stored_bytes"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    # HMAC-SHA256 of the whole key under the server's pepper; the key itself is shown once and kept nowhere.
    Column("hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    moment("created_at", now=True),
    moment("last_used_at"),
    moment("expires_at"),
    moment("revoked_at"),
    Index("ix_api_keys_tenant_id", "tenant_id"),
)

# Answers to creating requests, each committed together with what it created.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    # Null for the administrator.
    Column("tenant_id", Text, ForeignKey("tenants.id")),
    Column("route", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body_sha256", LargeBinary, nullable=False),
    Column("status", SmallInteger, nullable=False),
    json("headers", "{}"),
    # Sealed with the server's secret: the answer may hold a new API key.
    Column("sealed_body", LargeBinary, nullable=False),
    moment("created_at", now=True),
    UniqueConstraint("tenant_id", "route", "key", postgresql_nulls_not_distinct=True),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
