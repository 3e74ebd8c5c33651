"""Spread what a tenant stores over several rows, so that its transactions do not wait for one another.

The one number of a tenant stays where it is and counts on: processes of before this revision go on changing it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "tenant_storage_stripes",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("stripe", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_tenant_storage_stripes_tenant_id"),
        sa.PrimaryKeyConstraint("tenant_id", "stripe", name="pk_tenant_storage_stripes"),
    )


def downgrade() -> None:
    """Take the revision back."""
    op.execute(
        """INSERT INTO tenant_storage (tenant_id, stored_bytes)
           SELECT tenant_id, sum(stored_bytes) FROM tenant_storage_stripes GROUP BY tenant_id
           ON CONFLICT (tenant_id)
           DO UPDATE SET stored_bytes = tenant_storage.stored_bytes + excluded.stored_bytes"""
    )
    op.drop_table("tenant_storage_stripes")
