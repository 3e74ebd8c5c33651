"""Keep answers under idempotency keys, and find what has expired by index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column(
            "headers",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("sealed_body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_idempotency_keys")),
        sa.UniqueConstraint(
            "tenant_id",
            "route",
            "key",
            name=op.f("uq_idempotency_keys_tenant_id_route_key"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"], unique=False)
    op.create_index("ix_events_created_at", "events", ["created_at"], unique=False, postgresql_using="brin")
    op.create_index(
        "ix_jobs_results_expire_at",
        "jobs",
        ["results_expire_at"],
        unique=False,
        postgresql_where=sa.text("NOT results_swept"),
    )


def downgrade() -> None:
    """Take the revision back."""
    op.drop_index("ix_jobs_results_expire_at", table_name="jobs", postgresql_where=sa.text("NOT results_swept"))
    op.drop_index("ix_events_created_at", table_name="events", postgresql_using="brin")
    op.drop_index("ix_idempotency_keys_created_at", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
