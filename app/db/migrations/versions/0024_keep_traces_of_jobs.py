"""Keep traces of jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("jobs", sa.Column("traceparent", sa.Text(), nullable=True))
    # Tokens, device seconds and the times of jobs are summed up too from now on: all is summed anew.
    op.execute("DELETE FROM work_totals")
    op.execute("UPDATE work_totals_until SET until = NULL")


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("jobs", "traceparent")
