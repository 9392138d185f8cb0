"""Alembic's entry point. It runs on the connection of `hypervisor.store.migrations.runner`."""

from alembic import context
from sqlalchemy import Connection

from hypervisor.store import tables  # noqa: F401  (registers every table)
from hypervisor.store.base import Base


def run() -> None:
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
