"""What attempts report while they run, and which exit codes are retried.

Revision ID: 0005
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("attempts", sa.Column("checkpoint_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("attempts", sa.Column("checkpoint", sa.JSON(), nullable=True))
    op.add_column("deployments", sa.Column("retry_exit_codes", sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column("deployments", "retry_exit_codes")
    op.drop_column("attempts", "checkpoint")
    op.drop_column("attempts", "checkpoint_at")
