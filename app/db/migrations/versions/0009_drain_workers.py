"""Drain workers, and know which of them is stuck or cannot load a model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "drains",
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("queue", name="pk_drains"),
    )
    op.add_column(
        "workers", sa.Column("unloadable_models", JSONB(), nullable=False, server_default=sa.text("'[]'::jsonb"))
    )
    op.add_column("workers", sa.Column("stuck_since", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("workers", "stuck_since")
    op.drop_column("workers", "unloadable_models")
    op.drop_table("drains")
