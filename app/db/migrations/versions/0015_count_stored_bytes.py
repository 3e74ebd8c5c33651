"""Count the bytes that tenants store, and find live and ended jobs of one tenant quickly."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_LIVE = "state NOT IN ('succeeded', 'partially_succeeded', 'failed', 'expired', 'cancelled')"
_COUNT = """
INSERT INTO tenant_storage (tenant_id, stored_bytes)
SELECT tenant_id, sum(size_bytes) FROM (
    SELECT tenant_id, size_bytes FROM files WHERE object_key IS NOT NULL AND deleted_at IS NULL AND NOT swept
    UNION ALL
    SELECT tenant_id, input_size_bytes FROM jobs WHERE input_file_id IS NULL AND NOT results_swept
    UNION ALL
    SELECT result_parts.tenant_id, size_bytes FROM result_parts JOIN jobs ON jobs.id = job_id WHERE NOT results_swept
) AS stored GROUP BY tenant_id
"""


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "tenant_storage",
        sa.Column("tenant_id", sa.Text(), sa.ForeignKey("tenants.id"), primary_key=True),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")),
    )
    op.execute(_COUNT)
    op.create_index("ix_jobs_live_of_tenant", "jobs", ["tenant_id", "state"], postgresql_where=sa.text(_LIVE))
    op.create_index("ix_jobs_tenant_id_finished_at", "jobs", ["tenant_id", "finished_at"])


def downgrade() -> None:
    """Take the revision back."""
    op.drop_index("ix_jobs_tenant_id_finished_at", "jobs")
    op.drop_index("ix_jobs_live_of_tenant", "jobs")
    op.drop_table("tenant_storage")
