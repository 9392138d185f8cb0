"""Copies of a SQLite database: taken while a server writes to it, checked, and prepared for a restore.

Synchronous: for commands, not for the server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import StartupError
from hypervisor.store.driver.address import parse_database_url

BUSY_SECONDS = 30.0
ID_GAP = 1_000_000
"""Increment of the next ids in a restored copy."""


@dataclass(frozen=True, slots=True)
class CopyInfo:
    """The schema revision, installation id and number of deployments in a copy."""

    revision: str
    install_id: str
    deployments: int


def database_file(url: str) -> Path | None:
    """The file of a SQLite database, None for any other database."""
    return parse_database_url(url).file


def copy_database(source: Path, target: Path) -> CopyInfo:
    """Copy a consistent state with SQLite's online backup; writers continue.

    The copy is one file without a write-ahead log. Raises StartupError if the source cannot be read.
    """
    with _opened(source, "ro") as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    return check_copy(target)


def check_copy(path: Path) -> CopyInfo:
    """Read every page. Raises StartupError if the file is damaged, empty, or not a hypervisor database."""
    with _opened(path, "ro") as copy:
        (result,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if result != "ok":
            raise StartupError(f"the database is damaged: {result}")
        (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        (install_id,) = copy.execute("SELECT install_id FROM installation").fetchone() or (None,)
        if revision is None or install_id is None:
            raise StartupError("the database is empty; no server has used it yet")
        (deployments,) = copy.execute("SELECT count(*) FROM deployments").fetchone()
        return CopyInfo(revision, install_id, deployments)


def skip_ids(path: Path) -> None:
    """Raise the next ids by ID_GAP, above any id that was assigned after the backup.

    Instance names contain the deployment id. With a reused id a new deployment would adopt the instance of a
    deployment that was created after the backup.
    """
    with closing(sqlite3.connect(path)) as copy, copy:
        rows = copy.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name in (name for name, sql in rows if "AUTOINCREMENT" in sql):
            has_sequence = copy.execute("SELECT 1 FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
            change = (
                "UPDATE sqlite_sequence SET seq = seq + :gap WHERE name = :name"
                if has_sequence
                else "INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :gap)"
            )
            copy.execute(change, {"name": name, "gap": ID_GAP})


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    if not path.is_file():
        raise StartupError(f"there is no database at {path}")
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise StartupError(f"the database {path} cannot be read: {error}") from error
