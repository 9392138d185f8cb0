"""Placement policies and solvers are named by their registries, not by the table.

SQLite cannot change a CHECK: the table is copied, and with it the highest id that was ever given out.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

CHECK = "ck_clusters_placement"
SEQUENCE = "FROM sqlite_sequence WHERE name = 'clusters'"
RENAMED = (("packer", "solver"), ("improvement_steps", "optimizer_steps"))


def upgrade() -> None:
    for old, new in RENAMED:
        op.execute(f"ALTER TABLE clusters RENAME COLUMN {old} TO {new}")
    copy(32, check=False)


def downgrade() -> None:
    op.execute(
        "UPDATE clusters SET placement = 'fgd' WHERE placement NOT IN ('fgd', 'fill', 'bestfit', 'spread')"
    )
    copy(16, check=True)
    for old, new in RENAMED:
        op.execute(f"ALTER TABLE clusters RENAME COLUMN {new} TO {old}")


def copy(length: int, *, check: bool) -> None:
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    if sqlite and connection.scalar(sa.text("PRAGMA foreign_keys")):
        raise RuntimeError("with foreign keys on, copying the clusters would delete whatever belongs to them")
    highest = connection.scalar(sa.text(f"SELECT seq {SEQUENCE}")) if sqlite else None
    with op.batch_alter_table("clusters", table_kwargs={"sqlite_autoincrement": True}) as batch:
        if check:
            batch.create_check_constraint(op.f(CHECK), "placement IN ('fgd', 'fill', 'bestfit', 'spread')")
        else:
            batch.drop_constraint(op.f(CHECK), type_="check")
        for column in ("placement", "solver"):
            batch.alter_column(column, type_=sa.String(length))
    if highest is not None:
        connection.execute(sa.text(f"DELETE {SEQUENCE}"))
        connection.execute(
            sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('clusters', :seq)"), {"seq": highest}
        )
