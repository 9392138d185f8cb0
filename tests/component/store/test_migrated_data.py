"""A migration that copies a table keeps what is in it, and what belongs to it."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import IntegrityError

ORGANIZATION = (
    "INSERT INTO organizations (id, name, name_normalized, created_at) VALUES (1, 'o', 'o', '2026-01-01')"
)
CLUSTER = """INSERT INTO clusters (id, organization_id, name, runtime, resolved_runtime, placement,
    preemption, min_runtime_seconds, created_at)
    VALUES (:id, 1, :name, 'auto', 'process', :placement, 1, 7, '2026-01-01')"""
NODE = """INSERT INTO nodes (cluster_id, name, cpu_milli, ram_mib, gpu_count, labels, cordoned, draining,
    deleting, used_cpu_milli, used_ram_mib, created_at)
    VALUES (1, 'n', 1, 1, 0, '{}', 0, 0, 0, 0, 0, '2026-01-01')"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return create_engine(f"sqlite:///{tmp_path / 'hypervisor.db'}")


def migrate(connection: Connection, revision: str, *, down: bool = False) -> None:
    config = Config()
    config.set_main_option("script_location", str(resources.files("hypervisor.store") / "migrations"))
    config.attributes["connection"] = connection
    (command.downgrade if down else command.upgrade)(config, revision)


def add_cluster(connection: Connection, id_: int | None, name: str, placement: str) -> None:
    connection.execute(text(CLUSTER), {"id": id_, "name": name, "placement": placement})


def filled(connection: Connection) -> None:
    migrate(connection, "0006")
    connection.execute(text(ORGANIZATION))
    add_cluster(connection, 1, "a", "bestfit")
    add_cluster(connection, 9, "gone", "fgd")
    connection.execute(text(NODE))
    connection.execute(text("DELETE FROM clusters WHERE id = 9"))


def test_clusters_and_their_nodes_survive_a_new_placement(engine: Engine) -> None:
    with engine.begin() as connection:
        filled(connection)
        migrate(connection, "0007")
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT id, placement, min_runtime_seconds FROM clusters")).all()
        assert rows == [(1, "bestfit", 7)]
        assert connection.scalar(text("SELECT count(*) FROM nodes")) == 1
        add_cluster(connection, None, "b", "fill")
        # An id is never given out twice, even that of a deleted cluster.
        assert connection.scalar(text("SELECT id FROM clusters WHERE name = 'b'")) == 10
    with engine.begin() as connection:
        migrate(connection, "0006", down=True)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT placement FROM clusters WHERE id = 10")) == "fgd"
        with pytest.raises(IntegrityError):
            add_cluster(connection, None, "c", "fill")


def test_nothing_is_copied_where_that_would_delete_nodes(engine: Engine) -> None:
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys=ON"))
    with engine.begin() as connection:
        filled(connection)
    with pytest.raises(RuntimeError), engine.begin() as connection:
        migrate(connection, "0007")
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM nodes")) == 1
