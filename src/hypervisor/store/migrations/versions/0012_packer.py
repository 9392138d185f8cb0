"""How a cluster searches for a better arrangement of what a pass places.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "clusters", sa.Column("packer", sa.String(length=16), nullable=False, server_default="search")
    )


def downgrade() -> None:
    op.drop_column("clusters", "packer")
