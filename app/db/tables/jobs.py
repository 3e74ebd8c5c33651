"""Jobs and groups, the chunks they are cut into, and what became of them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from app.db.tables.columns import count, json, metadata, moment, tenant_id

_JOB_LIVES = "state NOT IN ('succeeded', 'partially_succeeded', 'failed', 'expired', 'cancelled')"

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    Column("dialect", Text, nullable=False),
    # The anthropic-version that a batch of messages was made under: it decides which parameters its items may have.
    Column("api_version", Text),
    Column("state", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text),
    Column("model_version", Text),
    Column("pool", Text),
    Column("priority", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("on_deadline", Text, nullable=False, server_default="expire"),
    Column("max_attempts", SmallInteger, nullable=False, server_default=text("3")),
    Column("item_timeout_s", Float),
    Column("on_oversize", Text, nullable=False, server_default="fail"),
    json("parameters", "{}"),
    json("metadata", "{}"),
    # The input: one object of JSONL. ``input_file_id`` is set where the client uploaded it.
    Column("input_file_id", Text, ForeignKey("files.id", use_alter=True)),
    Column("input_key", Text, nullable=False),
    Column("input_size_bytes", BigInteger, nullable=False),
    Column("n_items", BigInteger),
    Column("prepare_token", Text),
    moment("prepare_until"),
    Column("prepare_attempts", Integer, nullable=False, server_default=text("0")),
    json("validation_errors", "[]"),
    Column("failure", JSONB),
    # Why the items that have not run are failed without being run; null while they may run.
    Column("refusal", Text),
    Column("attempt_runs", Integer, nullable=False, server_default=text("0")),
    # Estimated tokens of its live chunks, kept in the transactions that add and end them.
    count("remaining_tokens"),
    # When its first chunk was granted: from then on it holds one of its tenant's places, until it may not run any more.
    moment("admitted_at"),
    # The transaction that changed the row last, set by a trigger, so that the dispatcher reads only what changed.
    count("changed_in"),
    # Why the job is ending early: ``cancelled`` or ``expired``; null while it may still run.
    Column("stop_reason", Text),
    Column("last_part_seq", Integer, nullable=False, server_default=text("0")),
    # The outcome, written once by the finaliser.
    Column("final", JSONB),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("output_expires_after_s", Integer),
    Column("schedule_id", Text, ForeignKey("schedules.id")),
    # Whom the job tells itself, ``{"url", "events"}``; null where only the tenant's endpoints are told.
    Column("webhook", JSONB(none_as_null=True)),
    # Where in a trace it was submitted, as the W3C header says it; null where nobody traces.
    Column("traceparent", Text),
    # A member of a group: its place in it, the last order that reached it, and where its part of the input begins.
    Column("group_id", Text, ForeignKey("groups.id")),
    Column("group_ordinal", Integer),
    Column("group_order_seq", Integer, nullable=False, server_default=text("0")),
    Column("first_index", BigInteger, nullable=False, server_default=text("0")),
    Column("input_start", BigInteger, nullable=False, server_default=text("0")),
    moment("created_at", now=True),
    # When its completion window began, where a retry gave it another; null for its creation.
    moment("window_from"),
    moment("deadline_at"),
    moment("queued_at"),
    moment("started_at"),
    moment("cancelling_at"),
    moment("finalizing_at"),
    moment("finished_at"),
    moment("results_expire_at"),
    Column("results_swept", Boolean, nullable=False, server_default=false()),
    # Its tenant does not see it any more; its results go with the next sweep.
    moment("deleted_at"),
    # When its window made it urgent; null again where the window is changed.
    moment("escalated_at"),
    UniqueConstraint("group_id", "group_ordinal"),
    Index("ix_jobs_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index(
        "ix_jobs_live",
        "state",
        postgresql_where=text(_JOB_LIVES),
    ),
    Index("ix_jobs_changed_in", "changed_in"),
    Index("ix_jobs_deadline_at", "deadline_at", postgresql_where=text(f"stop_reason IS NULL AND {_JOB_LIVES}")),
    Index(
        "ix_jobs_ending",
        "created_at",
        postgresql_where=text(f"(remaining_tokens = 0 OR stop_reason IS NOT NULL) AND {_JOB_LIVES}"),
    ),
    Index(
        "ix_jobs_live_of_tenant",
        "tenant_id",
        "state",
        postgresql_where=text(_JOB_LIVES),
    ),
    Index("ix_jobs_tenant_id_finished_at", "tenant_id", "finished_at"),
    Index("ix_jobs_results_expire_at", "results_expire_at", postgresql_where=text("NOT results_swept")),
    Index(
        "ix_jobs_escalating",
        "deadline_at",
        postgresql_where=text(
            "on_deadline = 'escalate' AND escalated_at IS NULL AND priority <> 'urgent' AND finished_at IS NULL"
        ),
    ),
    Index("ix_jobs_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    # The list of message batches, of which a tenant with many other jobs may have few.
    Index("ix_jobs_messages", "tenant_id", "created_at", "id", postgresql_where=text("dialect = 'anthropic'")),
)

# Jobs that share one input above a job's limits. Its state is never stored: it follows from the members'.
groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    tenant_id(),
    # What every member's row begins with: endpoint, priority, parameters and whatever else a job is asked for.
    Column("member", JSONB, nullable=False),
    Column("input_file_id", Text, ForeignKey("files.id", use_alter=True), nullable=False),
    Column("input_key", Text, nullable=False),
    Column("input_size_bytes", BigInteger, nullable=False),
    Column("n_items", BigInteger),
    Column("model", Text),
    json("validation_errors", "[]"),
    Column("failure", JSONB),
    # How far the planner has come: the next member begins behind this many items and bytes.
    Column("n_members", Integer, nullable=False, server_default=text("0")),
    count("planned_items"),
    count("planned_bytes"),
    # Who checks, plans, steers and closes it.
    Column("lead_token", Text),
    moment("lead_until"),
    Column("lead_attempts", Integer, nullable=False, server_default=text("0")),
    # The latest order to all members; a member with a lower ``group_order_seq`` has not had it yet.
    Column("order_kind", Text),
    Column("order_seq", Integer, nullable=False, server_default=text("0")),
    json("order_data", "{}"),
    moment("created_at", now=True),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    moment("validated_at"),
    moment("planned_at"),
    moment("closed_at"),
    moment("results_expire_at"),
    Index("ix_groups_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_groups_open", "created_at", postgresql_where=text("closed_at IS NULL")),
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    tenant_id(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("ordinal", Integer, nullable=False),
    # The job's ``attempt_runs`` when it was made.
    Column("run", Integer, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False, server_default="pending"),
    # The run that took over what did not succeed here: it counts no longer. Null where it stands.
    Column("retried_in", Integer),
    # Where its items stand in the input: one byte range, or for a recovery chunk explicit items
    # [[index, offset, length, attempts so far, of these in earlier runs], ...]; the last may be left out.
    Column("byte_start", BigInteger, nullable=False),
    Column("byte_end", BigInteger, nullable=False),
    Column("first_index", BigInteger, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("items", JSONB),
    Column("estimated_tokens", BigInteger, nullable=False),
    Column("estimated_s", Float, nullable=False),
    moment("not_before"),
    Column("queue", Text),
    Column("grants", Integer, nullable=False, server_default=text("0")),
    moment("granted_at"),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("worker_deaths", Integer, nullable=False, server_default=text("0")),
    # The item error code that the last of these deaths means; null where only the death is known.
    Column("death_cause", Text),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    moment("lease_until"),
    moment("claimed_at"),
    moment("finished_at"),
    count("n_succeeded"),
    count("n_failed"),
    count("n_deferred"),
    count("input_tokens"),
    count("output_tokens"),
    Column("device_s", Float, nullable=False, server_default=text("0")),
    json("errors_by_code", "{}"),
    moment("created_at", now=True),
    UniqueConstraint("job_id", "ordinal"),
    Index("ix_chunks_pending", "job_id", "ordinal", postgresql_where=text("state = 'pending'")),
    Index("ix_chunks_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index("ix_chunks_live", "state", "job_id", postgresql_where=text("state IN ('pending', 'granted', 'running')")),
)

result_parts = Table(
    "result_parts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    tenant_id(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("chunk_id", BigInteger, ForeignKey("chunks.id")),
    # Place in the job's result stream; given under the job row's lock, so the stream only grows at its end.
    Column("seq", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("object_key", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("n_items", Integer, nullable=False),
    Column("sha256", Text, nullable=False),
    # The run that does its items again: no result any more. Null where it stands.
    Column("superseded_in", Integer),
    moment("created_at", now=True),
    UniqueConstraint("job_id", "seq"),
    CheckConstraint("outcome IN ('succeeded', 'failed', 'cancelled', 'expired')", name="outcome"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    tenant_id(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("chunk_id", BigInteger),
    Column("kind", Text, nullable=False),
    json("data", "{}"),
    moment("created_at", now=True),
    Index("ix_events_job_id_id", "job_id", "id"),
    # Rows come in the order of time, so a few pages of BRIN find the old ones.
    Index("ix_events_created_at", "created_at", postgresql_using="brin"),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("task", Text),
    json("message", "{}"),
    moment("created_at", now=True),
)
