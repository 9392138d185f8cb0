"""Databases for tests: every test that takes `database_url` runs on SQLite and on PostgreSQL.

URLs are plain (`sqlite:///path`, `postgresql://...`); the product adds its drivers. Every test gets a new
migrated database: a copy of a template file, or a clone of a template database.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from hypervisor.store.database import POSTGRES_TIMEOUTS
from hypervisor.store.migrations.runner import upgrade
from tests.support.postgres import PostgresServer
from tests.support.summary import count_for

BACKENDS = ("sqlite", "postgresql")
ON_SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
"""For a test whose result cannot depend on the database."""


# In production, five seconds in a transaction mean a lost server; here often a busy machine.
POSTGRES_TIMEOUTS.update(dict.fromkeys(POSTGRES_TIMEOUTS, "60000"))


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """An event loop in its own thread, so that sync fixtures can await beside the loop of a test."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """The database of a test."""
    return str(request.param)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest) -> str:
    """The URL of a fresh migrated database, once on SQLite and once on PostgreSQL."""
    return str(request.getfixturevalue(f"{backend}_url"))


@pytest.fixture
def empty_database_url(backend: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without any table, once on SQLite and once on PostgreSQL: for migrations."""
    return str(request.getfixturevalue(f"empty_{backend}_url"))


@pytest.fixture
def sqlite_url(sqlite_template: Path, empty_sqlite_url: str) -> str:
    """A fresh migrated SQLite file."""
    shutil.copyfile(sqlite_template, empty_sqlite_url.removeprefix("sqlite:///"))
    return empty_sqlite_url


@pytest.fixture
def postgresql_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A fresh migrated PostgreSQL database."""
    count_for(request, "postgresql")
    with postgres_server.database(upgrade) as url:
        yield url


@pytest.fixture
def empty_sqlite_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a SQLite file that does not exist yet."""
    count_for(request, "sqlite")
    return f"sqlite:///{tmp_path / 'hypervisor.db'}"


@pytest.fixture
def empty_postgresql_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A PostgreSQL database without any table."""
    count_for(request, "postgresql")
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory, portal: BlockingPortal) -> Path:
    """A migrated file to copy, without a write-ahead log."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    portal.call(upgrade, f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path
