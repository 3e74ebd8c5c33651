"""Every table, once. Migrations are checked against this file by a test.

Times are ``timestamptz`` written by the database's ``now()``. Every row of a tenant carries ``tenant_id``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

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
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _moment(name: str, *, now: bool = False) -> Column[datetime]:
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def _tenant() -> Column[str]:
    return Column("tenant_id", Text, ForeignKey("tenants.id"), nullable=False)


def _json(name: str, default: str) -> Column[Any]:
    return Column(name, JSONB, nullable=False, server_default=text(f"'{default}'::jsonb"))


def _quota(name: str, kind: TypeEngine[Any]) -> tuple[Column[Any], CheckConstraint]:
    return Column(name, kind), CheckConstraint(f"{name} > 0", name=f"{name}_above_zero")


_JOB_LIVES = "state NOT IN ('succeeded', 'partially_succeeded', 'failed', 'expired', 'cancelled')"

tenants = Table(
    "tenants",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _moment("created_at", now=True),
    # Quotas; null stands for the installation's default.
    *_quota("weight", Float()),
    *_quota("max_running_jobs", BigInteger()),
    *_quota("max_chunks", BigInteger()),
    *_quota("max_enqueued_tokens", BigInteger()),
    *_quota("requests_per_minute", BigInteger()),
    *_quota("max_storage_bytes", BigInteger()),
    *_quota("retention_s", BigInteger()),
    *_quota("budget", Numeric(18, 6)),
    # As of ``jobs``.
    _count("changed_in"),
    Index("ix_tenants_changed_in", "changed_in"),
)

# Apart from ``tenants``, whose rows every insert of a tenant's row holds for its foreign key. The sum of both
# tables counts: uploads, inline inputs and results that are neither deleted nor swept.
tenant_storage = Table(
    "tenant_storage",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    # Changed by processes of before there were stripes.
    _count("stored_bytes"),
)

# Several rows for each tenant, so that those who store at once seldom wait for one another.
tenant_storage_stripes = Table(
    "tenant_storage_stripes",
    metadata,
    Column("tenant_id", Text, ForeignKey("tenants.id"), primary_key=True),
    Column("stripe", SmallInteger, primary_key=True, autoincrement=False),
    _count("stored_bytes"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    # HMAC-SHA256 of the whole key under the server's pepper; the key itself is shown once and kept nowhere.
    Column("hash", LargeBinary, nullable=False),
    Column("name", Text, nullable=False, server_default=""),
    _moment("created_at", now=True),
    _moment("last_used_at"),
    _moment("expires_at"),
    _moment("revoked_at"),
    Index("ix_api_keys_tenant_id", "tenant_id"),
)

files = Table(
    "files",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", Text),
    # Up to the last that is not blank; null where nobody counted.
    Column("n_lines", BigInteger),
    # An uploaded file is one object; an output or error file is the parts of a job, read in their order.
    Column("object_key", Text),
    Column("job_id", Text, ForeignKey("jobs.id")),
    _moment("created_at", now=True),
    _moment("expires_at"),
    _moment("deleted_at"),
    Column("swept", Boolean, nullable=False, server_default=false()),
    CheckConstraint("(object_key IS NULL) <> (job_id IS NULL)", name="one_source"),
    Index("ix_files_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_files_expires_at", "expires_at", postgresql_where=text("NOT swept")),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
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
    _json("parameters", "{}"),
    _json("metadata", "{}"),
    # The input: one object of JSONL. ``input_file_id`` is set where the client uploaded it.
    Column("input_file_id", Text, ForeignKey("files.id", use_alter=True)),
    Column("input_key", Text, nullable=False),
    Column("input_size_bytes", BigInteger, nullable=False),
    Column("n_items", BigInteger),
    Column("prepare_token", Text),
    _moment("prepare_until"),
    Column("prepare_attempts", Integer, nullable=False, server_default=text("0")),
    _json("validation_errors", "[]"),
    Column("failure", JSONB),
    # Why the items that have not run are failed without being run; null while they may run.
    Column("refusal", Text),
    Column("attempt_runs", Integer, nullable=False, server_default=text("0")),
    # Estimated tokens of its live chunks, kept in the transactions that add and end them.
    _count("remaining_tokens"),
    # When its first chunk was granted: from then on it holds one of its tenant's places, until it may not run any more.
    _moment("admitted_at"),
    # The transaction that changed the row last, set by a trigger, so that the dispatcher reads only what changed.
    _count("changed_in"),
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
    # A member of a group: its place in it, the last order that reached it, and where its part of the input begins.
    Column("group_id", Text, ForeignKey("groups.id")),
    Column("group_ordinal", Integer),
    Column("group_order_seq", Integer, nullable=False, server_default=text("0")),
    Column("first_index", BigInteger, nullable=False, server_default=text("0")),
    Column("input_start", BigInteger, nullable=False, server_default=text("0")),
    _moment("created_at", now=True),
    # When its completion window began, where a retry gave it another; null for its creation.
    _moment("window_from"),
    _moment("deadline_at"),
    _moment("queued_at"),
    _moment("started_at"),
    _moment("cancelling_at"),
    _moment("finalizing_at"),
    _moment("finished_at"),
    _moment("results_expire_at"),
    Column("results_swept", Boolean, nullable=False, server_default=false()),
    # Its tenant does not see it any more; its results go with the next sweep.
    _moment("deleted_at"),
    # When its window made it urgent; null again where the window is changed.
    _moment("escalated_at"),
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
)

# Jobs that share one input above a job's limits. Its state is never stored: it follows from the members'.
groups = Table(
    "groups",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    # What every member's row begins with: endpoint, priority, parameters and whatever else a job is asked for.
    Column("member", JSONB, nullable=False),
    Column("input_file_id", Text, ForeignKey("files.id", use_alter=True), nullable=False),
    Column("input_key", Text, nullable=False),
    Column("input_size_bytes", BigInteger, nullable=False),
    Column("n_items", BigInteger),
    Column("model", Text),
    _json("validation_errors", "[]"),
    Column("failure", JSONB),
    # How far the planner has come: the next member begins behind this many items and bytes.
    Column("n_members", Integer, nullable=False, server_default=text("0")),
    _count("planned_items"),
    _count("planned_bytes"),
    # Who checks, plans, steers and closes it.
    Column("lead_token", Text),
    _moment("lead_until"),
    Column("lead_attempts", Integer, nullable=False, server_default=text("0")),
    # The latest order to all members; a member with a lower ``group_order_seq`` has not had it yet.
    Column("order_kind", Text),
    Column("order_seq", Integer, nullable=False, server_default=text("0")),
    _json("order_data", "{}"),
    _moment("created_at", now=True),
    Column("deadline_at", DateTime(timezone=True), nullable=False),
    _moment("validated_at"),
    _moment("planned_at"),
    _moment("closed_at"),
    _moment("results_expire_at"),
    Index("ix_groups_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_groups_open", "created_at", postgresql_where=text("closed_at IS NULL")),
)

chunks = Table(
    "chunks",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
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
    _moment("not_before"),
    Column("queue", Text),
    Column("grants", Integer, nullable=False, server_default=text("0")),
    _moment("granted_at"),
    Column("attempt", Integer, nullable=False, server_default=text("0")),
    Column("worker_deaths", Integer, nullable=False, server_default=text("0")),
    # The item error code that the last of these deaths means; null where only the death is known.
    Column("death_cause", Text),
    Column("lease_token", Text),
    Column("lease_holder", Text),
    _moment("lease_until"),
    _moment("claimed_at"),
    _moment("finished_at"),
    _count("n_succeeded"),
    _count("n_failed"),
    _count("n_deferred"),
    _count("input_tokens"),
    _count("output_tokens"),
    Column("device_s", Float, nullable=False, server_default=text("0")),
    _json("errors_by_code", "{}"),
    _moment("created_at", now=True),
    UniqueConstraint("job_id", "ordinal"),
    Index("ix_chunks_pending", "job_id", "ordinal", postgresql_where=text("state = 'pending'")),
    Index("ix_chunks_finished_at", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    Index("ix_chunks_live", "state", "job_id", postgresql_where=text("state IN ('pending', 'granted', 'running')")),
)

result_parts = Table(
    "result_parts",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
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
    _moment("created_at", now=True),
    UniqueConstraint("job_id", "seq"),
    CheckConstraint("outcome IN ('succeeded', 'failed', 'cancelled', 'expired')", name="outcome"),
)

uploads = Table(
    "uploads",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("mime_type", Text, nullable=False),
    # What its parts must come to.
    Column("size_bytes", BigInteger, nullable=False),
    Column("file_expires_after_s", Integer),
    # pending, completed or cancelled; one that is pending past ``expires_at`` is expired.
    Column("status", Text, nullable=False, server_default="pending"),
    Column("file_id", Text, ForeignKey("files.id")),
    _moment("created_at", now=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("parts_swept", Boolean, nullable=False, server_default=false()),
    Index("ix_uploads_expires_at", "expires_at", postgresql_where=text("NOT parts_swept")),
)

upload_parts = Table(
    "upload_parts",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("upload_id", Text, ForeignKey("uploads.id"), nullable=False),
    Column("object_key", Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    # Its place in the file; null where the upload was completed without it, or not yet.
    Column("ordinal", Integer),
    _moment("created_at", now=True),
    Index("ix_upload_parts_upload_id", "upload_id"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    _tenant(),
    Column("job_id", Text, ForeignKey("jobs.id"), nullable=False),
    Column("chunk_id", BigInteger),
    Column("kind", Text, nullable=False),
    _json("data", "{}"),
    _moment("created_at", now=True),
    Index("ix_events_job_id_id", "job_id", "id"),
    # Rows come in the order of time, so a few pages of BRIN find the old ones.
    Index("ix_events_created_at", "created_at", postgresql_using="brin"),
)

schedules = Table(
    "schedules",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("cron", Text, nullable=False),
    Column("timezone", Text, nullable=False),
    _json("job_template", "{}"),
    _json("source", "{}"),
    Column("due_by", Text),
    Column("enabled", Boolean, nullable=False, server_default=true()),
    _moment("created_at", now=True),
    _moment("next_tick_at"),
    _moment("deleted_at"),
    Index("ix_schedules_next_tick_at", "next_tick_at", postgresql_where=text("enabled AND deleted_at IS NULL")),
)

schedule_runs = Table(
    "schedule_runs",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("schedule_id", Text, ForeignKey("schedules.id"), nullable=False),
    # The tick this run belongs to; null for a run asked for by hand. One run a tick, however many beats there are.
    _moment("tick_at"),
    # Ids of the jobs made: one per source file.
    _json("job_ids", "[]"),
    Column("problem", Text),
    _moment("created_at", now=True),
    UniqueConstraint("schedule_id", "tick_at"),
)

workers = Table(
    "workers",
    metadata,
    Column("queue", Text, primary_key=True),
    Column("pool", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("incarnation", Text, nullable=False),
    _json("warm_models", "[]"),
    # Models that this process tried to load lately and could not.
    _json("unloadable_models", "[]"),
    # When this incarnation began.
    _moment("started_at", now=True),
    _moment("seen_at", now=True),
    # Since when it takes no chunk although it is heard; null once it does.
    _moment("stuck_since"),
)

# Queues whose worker takes no more chunks. Apart from the workers, whose rows come and go with their processes.
drains = Table(
    "drains",
    metadata,
    Column("queue", Text, primary_key=True),
    _moment("created_at", now=True),
)

# What came of the chunks that ended before ``work_totals_until``: a sum for each kind of question and each answer.
work_totals = Table(
    "work_totals",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("label", Text, primary_key=True),
    _count("n"),
    Column("sum_s", Float, nullable=False, server_default=text("0")),
    # Of a histogram: how many were at most each bound.
    Column("at_most", ARRAY(BigInteger), nullable=False, server_default="{}"),
)

# One row; null until something was summed up.
work_totals_until = Table(
    "work_totals_until",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    _moment("until"),
    CheckConstraint("id = 1", name="one_row"),
)

model_rates = Table(
    "model_rates",
    metadata,
    Column("model", Text, primary_key=True),
    Column("version", Text, primary_key=True),
    Column("pool", Text, primary_key=True),
    # Estimated tokens per device second, smoothed over finished chunks.
    Column("tokens_per_s", Float, nullable=False),
    _moment("updated_at", now=True),
)

# What the leading dispatcher last worked out about a pool: who waits for what, in which order, and until when.
pool_outlooks = Table(
    "pool_outlooks",
    metadata,
    Column("pool", Text, primary_key=True),
    _moment("taken_at", now=True),
    _json("outlook", "{}"),
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
    _json("headers", "{}"),
    # Sealed with the server's secret: the answer may hold a new API key.
    Column("sealed_body", LargeBinary, nullable=False),
    _moment("created_at", now=True),
    UniqueConstraint("tenant_id", "route", "key", postgresql_nulls_not_distinct=True),
    Index("ix_idempotency_keys_created_at", "created_at"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", ARRAY(Text), nullable=False),
    # Sealed with the server's secret; its last characters, to be recognised by.
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("secret_hint", Text, nullable=False),
    # The secret before, which signs as well until then.
    Column("sealed_old_secret", LargeBinary),
    _moment("old_secret_until"),
    _moment("created_at", now=True),
    _moment("updated_at", now=True),
    _moment("deleted_at"),
    Index("ix_webhook_endpoints_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
)

# The outbox: written in the transaction in which what is told came about.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    _tenant(),
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
    _json("attempts", "[]"),
    _moment("next_attempt_at", now=True),
    # Set while somebody sends it.
    _moment("claimed_until"),
    _moment("created_at", now=True),
    _moment("ended_at"),
    Index("ix_webhook_deliveries_tenant_id_created_at_id", "tenant_id", "created_at", "id"),
    Index("ix_webhook_deliveries_job_id", "job_id"),
    Index("ix_webhook_deliveries_due", "next_attempt_at", postgresql_where=text("state = 'pending'")),
    Index("ix_webhook_deliveries_receiver", "tenant_id", "url", postgresql_where=text("state = 'pending'")),
    Index("ix_webhook_deliveries_ended_at", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
)

dead_letters = Table(
    "dead_letters",
    metadata,
    Column("id", BigInteger, Identity(), primary_key=True),
    Column("queue", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("task", Text),
    _json("message", "{}"),
    _moment("created_at", now=True),
)
