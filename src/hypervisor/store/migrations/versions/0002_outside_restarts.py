"""What the engine reports about an attempt: a start from outside, its health, and its end.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("attempts") as attempts:
        attempts.add_column(sa.Column("restarted_at", sa.DateTime(timezone=True), nullable=True))
        attempts.add_column(sa.Column("health", sa.String(length=16), nullable=True))
        attempts.add_column(sa.Column("end_observed", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("attempts") as attempts:
        attempts.drop_column("end_observed")
        attempts.drop_column("health")
        attempts.drop_column("restarted_at")
