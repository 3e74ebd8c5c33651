"""Keep message batches."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("jobs", sa.Column("api_version", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("jobs", "deleted_at")
    op.drop_column("jobs", "api_version")
