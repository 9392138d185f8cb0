"""Clusters may place by expected fill.

SQLite cannot change a CHECK: the table is copied, and with it the highest id that was ever given out.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

CHECK = "ck_clusters_placement"
BEFORE = ("fgd", "bestfit", "spread")
AFTER = ("fgd", "fill", "bestfit", "spread")
SEQUENCE = "FROM sqlite_sequence WHERE name = 'clusters'"


def upgrade() -> None:
    allow(AFTER)


def downgrade() -> None:
    op.execute("UPDATE clusters SET placement = 'fgd' WHERE placement = 'fill'")
    allow(BEFORE)


def allow(names: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{name}'" for name in names)
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    if sqlite and connection.scalar(sa.text("PRAGMA foreign_keys")):
        raise RuntimeError("with foreign keys on, copying the clusters would delete whatever belongs to them")
    highest = connection.scalar(sa.text(f"SELECT seq {SEQUENCE}")) if sqlite else None
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.drop_constraint(op.f(CHECK), type_="check")
        batch.create_check_constraint(op.f(CHECK), f"placement IN ({listed})")
    if highest is not None:
        connection.execute(sa.text(f"DELETE {SEQUENCE}"))
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('clusters', :seq)"), {"seq": highest}
        )
