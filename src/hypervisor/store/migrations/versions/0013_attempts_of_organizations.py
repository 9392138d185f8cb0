"""An index by which the attempts of an organization are found when it is deleted.

Without it the database reads all attempts, of all organizations, within the one statement that deletes the
row; with a history of years that ran into the time limit of a statement, at every turn of the janitor. On a
large PostgreSQL this takes some seconds, in which nothing is placed.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_attempts_organization_id", "attempts", ["organization_id"])


def downgrade() -> None:
    op.drop_index("ix_attempts_organization_id", table_name="attempts")
