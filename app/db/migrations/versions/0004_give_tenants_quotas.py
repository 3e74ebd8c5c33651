"""Give tenants quotas; null stands for the installation's default."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "weight": sa.Float(),
    "max_running_jobs": sa.BigInteger(),
    "max_chunks": sa.BigInteger(),
    "max_enqueued_tokens": sa.BigInteger(),
    "requests_per_minute": sa.BigInteger(),
    "max_storage_bytes": sa.BigInteger(),
    "retention_s": sa.BigInteger(),
    "budget": sa.Numeric(18, 6),
}


def upgrade() -> None:
    """Apply the revision."""
    for name, kind in _TYPES.items():
        op.add_column("tenants", sa.Column(name, kind, nullable=True))
        op.create_check_constraint(f"{name}_above_zero", "tenants", f"{name} > 0")


def downgrade() -> None:
    """Take the revision back."""
    for name in _TYPES:
        op.drop_constraint(f"{name}_above_zero", "tenants", type_="check")
        op.drop_column("tenants", name)
