"""Find batches of messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_index(
        "ix_jobs_messages",
        "jobs",
        ["tenant_id", "created_at", "id"],
        postgresql_where=sa.text("dialect = 'anthropic'"),
    )


def downgrade() -> None:
    """Take the revision back."""
    op.drop_index("ix_jobs_messages", "jobs")
