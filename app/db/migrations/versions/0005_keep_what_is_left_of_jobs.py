"""Keep what the dispatcher decides from on the rows of jobs: what is left of them, who is admitted, what changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_LIVES = "state NOT IN ('succeeded', 'partially_succeeded', 'failed', 'expired', 'cancelled')"
_MARKED_TABLES = ("jobs", "tenants")
# A row of a transaction that is still under way cannot be seen, and its number is not below the oldest one under way:
# so nothing is missed, whatever the order of commits.
_MARK_CHANGE = """
CREATE FUNCTION mark_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$
"""


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("jobs", sa.Column("remaining_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True))
    for table in _MARKED_TABLES:
        op.add_column(table, sa.Column("changed_in", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute(
        "UPDATE jobs SET remaining_tokens = live.tokens"
        " FROM (SELECT job_id, sum(estimated_tokens) AS tokens FROM chunks"
        " WHERE state IN ('pending', 'granted', 'running') GROUP BY job_id) AS live WHERE live.job_id = jobs.id"
    )
    op.execute("UPDATE jobs SET admitted_at = started_at WHERE state = 'running'")
    op.execute(_MARK_CHANGE)
    for table in _MARKED_TABLES:
        op.execute(
            f"CREATE TRIGGER mark_change BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION mark_change()"
        )
        op.create_index(f"ix_{table}_changed_in", table, ["changed_in"])
    op.create_index(
        "ix_jobs_deadline_at", "jobs", ["deadline_at"], postgresql_where=sa.text(f"stop_reason IS NULL AND {_LIVES}")
    )
    op.create_index(
        "ix_jobs_ending",
        "jobs",
        ["created_at"],
        postgresql_where=sa.text(f"(remaining_tokens = 0 OR stop_reason IS NOT NULL) AND {_LIVES}"),
    )
    op.create_index("ix_chunks_pending", "chunks", ["job_id", "ordinal"], postgresql_where=sa.text("state = 'pending'"))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_index("ix_chunks_pending", "chunks")
    op.drop_index("ix_jobs_ending", "jobs")
    op.drop_index("ix_jobs_deadline_at", "jobs")
    for table in _MARKED_TABLES:
        op.drop_index(f"ix_{table}_changed_in", table)
        op.execute(f"DROP TRIGGER mark_change ON {table}")
    op.execute("DROP FUNCTION mark_change()")
    for table in _MARKED_TABLES:
        op.drop_column(table, "changed_in")
    op.drop_column("jobs", "admitted_at")
    op.drop_column("jobs", "remaining_tokens")
