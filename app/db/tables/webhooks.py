"""Who is told by webhook, and what is still to be told."""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from app.db.tables.columns import json, metadata, moment, tenant_id

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False),
    # Sealed with the server's secret; its last characters, to be recognised by.
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("secret_hint", Text, nullable=False),
    # The secret before, which signs as well until then.
    Column("sealed_old_secret", LargeBinary),
    moment("old_secret_until"),
    moment("created_at", now=True),
    moment("updated_at", now=True),
    moment("deleted_at"),
    Index("ix_webhook_endpoints_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
)

# The outbox: written in the transaction in which what is told came about.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    # One event goes to every receiver under one id, however often it is sent.
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    # Null where the job itself names the receiver.
    Column("endpoint_id", Text, ForeignKey("webhook_endpoints.id")),
    Column("url", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False, server_default="pending"),
    Column("n_attempts", Integer, nullable=False, server_default=text("0")),
    # What came of each: its time, status or error, and duration; never what the receiver said.
    json("attempts", "[]"),
    moment("next_attempt_at", now=True),
    # Set while somebody sends it.
    moment("claimed_until"),
    moment("created_at", now=True),
    moment("ended_at"),
    Index("ix_webhook_deliveries_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_webhook_deliveries_job_id", "job_id"),
    Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),
    Index("ix_webhook_deliveries_receiver", "tenant_id", "url", postgresql_where=text("state = 'pending'")),
    Index("ix_webhook_deliveries_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)
