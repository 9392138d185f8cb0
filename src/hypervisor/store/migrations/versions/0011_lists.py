"""Indexes for lists, and for the janitor, that read a page from one end however long the history is.

On a large PostgreSQL this takes a minute, in which nothing is submitted. The two indexes that go are prefixes
of new ones.

Revision ID: 0011
Revises: 0010
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

INDEXES = (
    ("ix_deployments_organization_id_state", "deployments", ("organization_id", "state", "id")),
    (
        "ix_deployments_organization_id_state_priority",
        "deployments",
        ("organization_id", "state", "priority", "id"),
    ),
    ("ix_deployments_cluster_id_state_id", "deployments", ("cluster_id", "state", "id")),
    ("ix_attempts_cluster_id_id", "attempts", ("cluster_id", "id")),
    ("ix_idempotency_keys_created_at", "idempotency_keys", ("created_at",)),
    ("ix_login_sessions_expires_at", "login_sessions", ("expires_at",)),
    ("ix_refresh_tokens_expires_at", "refresh_tokens", ("expires_at",)),
    ("ix_login_throttles_updated_at", "login_throttles", ("updated_at",)),
)
PREFIXES = (
    ("ix_deployments_cluster_id_state", "deployments", ("cluster_id", "state")),
    ("ix_attempts_cluster_id", "attempts", ("cluster_id",)),
)


def upgrade() -> None:
    for name, table, columns in INDEXES:
        op.create_index(name, table, columns)
    for name, table, _ in PREFIXES:
        op.drop_index(name, table_name=table)


def downgrade() -> None:
    for name, table, columns in PREFIXES:
        op.create_index(name, table, columns)
    for name, table, _ in reversed(INDEXES):
        op.drop_index(name, table_name=table)
