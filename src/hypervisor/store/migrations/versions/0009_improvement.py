"""How long a cluster searches for a better arrangement after a pass; 0, as before: not at all.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "clusters", sa.Column("improvement_steps", sa.Integer(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    op.drop_column("clusters", "improvement_steps")
