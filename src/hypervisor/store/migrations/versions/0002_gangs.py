"""Gangs: where replicas go, how long they may take to be up, and capacity kept for each of them.

What is kept for preemptors is planned anew with the first pass after this: the rows are not carried over.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column(
        "deployments", sa.Column("spread", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    op.add_column(
        "deployments", sa.Column("gang_timeout_seconds", sa.Integer(), nullable=False, server_default="300")
    )
    op.drop_table("nominations")
    _create_nominations(per_replica=True)


def downgrade() -> None:
    op.drop_table("nominations")
    _create_nominations(per_replica=False)
    op.drop_column("deployments", "gang_timeout_seconds")
    op.drop_column("deployments", "spread")


def _create_nominations(*, per_replica: bool) -> None:
    replica = [sa.Column("replica", sa.Integer(), nullable=False)] if per_replica else []
    key = ("deployment_id", "replica") if per_replica else ("deployment_id",)
    op.create_table(
        "nominations",
        sa.Column("deployment_id", BIG_ID, nullable=False),
        *replica,
        sa.Column("cluster_id", sa.Integer(), nullable=False),
        sa.Column("node_id", sa.Integer(), nullable=False),
        sa.Column("gpu_indices", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["cluster_id"],
            ["clusters.id"],
            name=op.f("fk_nominations_cluster_id_clusters"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["deployment_id"],
            ["deployments.id"],
            name=op.f("fk_nominations_deployment_id_deployments"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_nominations_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_nominations")),
    )
    op.create_index(op.f("ix_nominations_cluster_id"), "nominations", ["cluster_id"])
    op.create_index(op.f("ix_nominations_node_id"), "nominations", ["node_id"])
