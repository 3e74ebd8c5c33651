"""Remember why the items of a job are failed without being run."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("jobs", sa.Column("refusal", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("jobs", "refusal")
