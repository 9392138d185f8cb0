"""Shares of clusters between organizations, and the preemption budget of a cluster.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

AMOUNTS = ("cpu_milli", "ram_mib", "gpu_milli")
BUDGET = (
    ("preemption_budget", "5"),
    ("preemption_window_seconds", "3600"),
    ("preemption_rest_seconds", "1800"),
)


def upgrade() -> None:
    for name, default in BUDGET:
        op.add_column("clusters", sa.Column(name, sa.Integer(), nullable=False, server_default=default))
    op.create_table(
        "cluster_shares",
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("organization_id", sa.Integer(), nullable=False),
        *(sa.Column(f"guaranteed_{name}", sa.BigInteger(), nullable=False) for name in AMOUNTS),
        *(sa.Column(f"limit_{name}", sa.BigInteger(), nullable=True) for name in AMOUNTS),
        sa.Column("weight_milli", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("offered_by", sa.Integer(), nullable=True),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_by", sa.Integer(), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('offered', 'accepted', 'declined', 'withdrawn')", name=op.f("ck_cluster_shares_state")
        ),
        sa.CheckConstraint("weight_milli > 0", name=op.f("ck_cluster_shares_weight")),
        sa.CheckConstraint(
            "guaranteed_cpu_milli >= 0 AND guaranteed_ram_mib >= 0 AND guaranteed_gpu_milli >= 0",
            name=op.f("ck_cluster_shares_guaranteed"),
        ),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_cluster_shares_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name=op.f("fk_cluster_shares_organization_id_organizations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["offered_by"],
            ["users.id"],
            name=op.f("fk_cluster_shares_offered_by_users"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["answered_by"],
            ["users.id"],
            name=op.f("fk_cluster_shares_answered_by_users"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("cluster_id", "organization_id", name=op.f("pk_cluster_shares")),
    )
    op.create_index(op.f("ix_cluster_shares_organization_id"), "cluster_shares", ["organization_id"])
    op.create_index(
        "ix_attempts_preempted",
        "attempts",
        ["cluster_id", "stop_requested_at"],
        sqlite_where=sa.text("preempted_by IS NOT NULL"),
        postgresql_where=sa.text("preempted_by IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_attempts_preempted", table_name="attempts")
    op.drop_table("cluster_shares")
    for name, _ in reversed(BUDGET):
        op.drop_column("clusters", name)
