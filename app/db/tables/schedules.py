"""Schedules and their runs."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    UniqueConstraint,
    text,
    true,
)

from app.db.tables.columns import json, metadata, moment, tenant_id

schedules = Table(
    "schedules",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("name", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    json("job_template", "{}"),
    json("source", "{}"),
    Column("due_by", Text),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    moment("created_at", now=True),
    moment("next_tick_at"),
    moment("deleted_at"),
    Index("ix_schedules_next_tick_at", "next_tick_at", postgresql_where=text("enabled AND deleted_at IS NULL")),
)

schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("schedule_id", Text, ForeignKey("schedules.id"), nullable=False),
    # The tick this run belongs to; null for a run asked for by hand. One run a tick, however many beats there are.
    moment("tick_at"),
    # Ids of the jobs made: one per source file.
    json("job_ids", "[]"),
    Column("problem", Text),
    moment("created_at", now=True),
    UniqueConstraint("schedule_id", "tick_at"),
)
