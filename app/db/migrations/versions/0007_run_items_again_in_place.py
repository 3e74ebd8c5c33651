"""Run items again in place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("chunks", sa.Column("run", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("chunks", sa.Column("retried_in", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("window_from", sa.DateTime(timezone=True), nullable=True))
    op.add_column("result_parts", sa.Column("superseded_in", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("result_parts", "superseded_in")
    op.drop_column("jobs", "window_from")
    op.drop_column("chunks", "retried_in")
    op.drop_column("chunks", "run")
