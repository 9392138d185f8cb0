"""Copies of the embedded database: taken while a server writes to it, checked, and made ready to be used.

Synchronous: for commands, not for the server.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypervisor.errors import StartupError
from hypervisor.store.database import normalise_url

BUSY_SECONDS = 30.0
ID_GAP = 1_000_000
"""How far ids jump in a restored copy."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a copy says about itself."""

    revision: str
    install_id: str
    deployments: int


def database_file(url: str) -> Path | None:
    """The file of an embedded database, None for any other."""
    parsed = normalise_url(url)
    return Path(str(parsed.database)) if parsed.get_backend_name() == "sqlite" else None


def copy_database(source: Path, target: Path) -> Contents:
    """Copy one consistent state by SQLite's online backup: everything committed before, writers go on.

    The copy is one file without a write-ahead log. Raises StartupError where the source cannot be read.
    """
    with _opened(source, "ro") as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")
    return check_copy(target)


def check_copy(path: Path) -> Contents:
    """Read every page. Raises StartupError when something is wrong, or it is not a database of ours."""
    with _opened(path, "ro") as copy:
        (found,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise StartupError(f"the database is damaged: {found}")
        (revision,) = copy.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        (install_id,) = copy.execute("SELECT install_id FROM installation").fetchone() or (None,)
        if revision is None or install_id is None:
            raise StartupError("the database is empty: no server has used it yet")
        (deployments,) = copy.execute("SELECT count(*) FROM deployments").fetchone()
        return Contents(revision, install_id, deployments)


def skip_ids(path: Path) -> None:
    """Let every id that is given out from now on be higher than any that was given out after the backup.

    Instances are named after their deployment: with its id given out again, a new deployment would adopt
    the instance of one that was made after the backup.
    """
    with closing(sqlite3.connect(path)) as copy, copy:
        rows = copy.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        for name in (name for name, sql in rows if "AUTOINCREMENT" in sql):
            known = copy.execute("SELECT 1 FROM sqlite_sequence WHERE name = ?", (name,)).fetchone()
            change = (
                "UPDATE sqlite_sequence SET seq = seq + :gap WHERE name = :name"
                if known
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
