"""Sum up what came of ended chunks, so that metrics need not read all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "work_totals",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("n", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("sum_s", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("at_most", ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.PrimaryKeyConstraint("kind", "label", name="pk_work_totals"),
    )
    op.create_table(
        "work_totals_until",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_work_totals_until"),
        sa.CheckConstraint("id = 1", name="one_row"),
    )
    op.execute("INSERT INTO work_totals_until (id) VALUES (1)")
    op.create_index(
        "ix_chunks_finished_at", "chunks", ["finished_at"], postgresql_where=sa.text("finished_at IS NOT NULL")
    )


def downgrade() -> None:
    """Take the revision back."""
    op.drop_index("ix_chunks_finished_at", "chunks")
    op.drop_table("work_totals_until")
    op.drop_table("work_totals")
