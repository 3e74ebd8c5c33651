"""Spread what a tenant stores over several rows, so that its transactions do not wait for one another."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.add_column("tenant_storage", sa.Column("stripe", sa.SmallInteger(), server_default=sa.text("0"), nullable=False))
    op.drop_constraint("pk_tenant_storage", "tenant_storage", type_="primary")
    op.create_primary_key("pk_tenant_storage", "tenant_storage", ["tenant_id", "stripe"])


def downgrade() -> None:
    """Take the revision back."""
    op.execute(
        """WITH gone AS (DELETE FROM tenant_storage WHERE stripe > 0 RETURNING tenant_id, stored_bytes),
               sums AS (SELECT tenant_id, sum(stored_bytes) AS n FROM gone GROUP BY tenant_id)
           INSERT INTO tenant_storage (tenant_id, stripe, stored_bytes) SELECT tenant_id, 0, n FROM sums
           ON CONFLICT (tenant_id, stripe)
           DO UPDATE SET stored_bytes = tenant_storage.stored_bytes + excluded.stored_bytes"""
    )
    op.drop_constraint("pk_tenant_storage", "tenant_storage", type_="primary")
    op.drop_column("tenant_storage", "stripe")
    op.create_primary_key("pk_tenant_storage", "tenant_storage", ["tenant_id"])
