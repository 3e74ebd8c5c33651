"""Keep windows and their ends: escalation, the ended jobs of the last hours, and what is said of the waiting ones."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_ESCALATING = "on_deadline = 'escalate' AND escalated_at IS NULL AND priority <> 'urgent' AND finished_at IS NULL"


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("jobs", sa.Column("escalated_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_jobs_escalating", "jobs", ["deadline_at"], postgresql_where=sa.text(_ESCALATING))
    op.create_index("ix_jobs_finished_at", "jobs", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL"))
    op.create_table(
        "pool_outlooks",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "outlook",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("pool", name=op.f("pk_pool_outlooks")),
    )


def downgrade() -> None:
    """Take the revision back."""
    op.drop_table("pool_outlooks")
    op.drop_index("ix_jobs_finished_at", table_name="jobs")
    op.drop_index("ix_jobs_escalating", table_name="jobs")
    op.drop_column("jobs", "escalated_at")
