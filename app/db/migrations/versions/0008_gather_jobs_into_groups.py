"""Gather jobs into groups; count the lines of files, so that a submit knows which need one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    op.create_table(
        "groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("member", JSONB(), nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=False),
        sa.Column("input_key", sa.Text(), nullable=False),
        sa.Column("input_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("n_items", sa.BigInteger(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("validation_errors", JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("failure", JSONB(), nullable=True),
        sa.Column("n_members", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("planned_items", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("planned_bytes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("lead_token", sa.Text(), nullable=True),
        sa.Column("lead_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lead_attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("order_kind", sa.Text(), nullable=True),
        sa.Column("order_seq", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("order_data", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deadline_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("validated_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("planned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("results_expire_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name="fk_groups_tenant_id"),
        sa.ForeignKeyConstraint(["input_file_id"], ["files.id"], name="fk_groups_input_file_id"),
    )
    op.create_index("ix_groups_tenant_id_created_at_id", "groups", ["tenant_id", "created_at", "id"])
    op.create_index("ix_groups_open", "groups", ["created_at"], postgresql_where=sa.text("closed_at IS NULL"))
    op.add_column("jobs", sa.Column("group_id", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("group_ordinal", sa.Integer(), nullable=True))
    op.add_column("jobs", sa.Column("group_order_seq", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("first_index", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("jobs", sa.Column("input_start", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.create_foreign_key("fk_jobs_group_id", "jobs", "groups", ["group_id"], ["id"])
    op.create_unique_constraint("uq_jobs_group_id_group_ordinal", "jobs", ["group_id", "group_ordinal"])
    op.add_column("files", sa.Column("n_lines", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Take the revision back."""
    op.drop_column("files", "n_lines")
    op.drop_constraint("uq_jobs_group_id_group_ordinal", "jobs", type_="unique")
    op.drop_constraint("fk_jobs_group_id", "jobs", type_="foreignkey")
    for name in ("input_start", "first_index", "group_order_seq", "group_ordinal", "group_id"):
        op.drop_column("jobs", name)
    op.drop_table("groups")
