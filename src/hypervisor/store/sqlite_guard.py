"""Watches the file of a SQLite database: SQLite itself goes on writing to a file that was removed."""

from __future__ import annotations

import os
from pathlib import Path

from hypervisor.store.driver.errors import DatabaseUnreachable

MIN_FREE_BYTES = 1024 * 1024


class SqliteGuard:
    """Remembers the file that the first connection opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._identity: tuple[int, int] | None = None

    def opened(self) -> None:
        """Note the file, after a connection was opened."""
        if self._identity is None:
            self._identity = self._current()

    def check(self) -> None:
        """Raise DatabaseUnreachable if the file was removed or replaced since it was opened."""
        if self._identity is not None and self._current() != self._identity:
            raise DatabaseUnreachable(
                f"the database file {self._path} was removed or replaced; stop the server, put the file back "
                "or restore a backup, and start the server"
            )

    def obstacle(self) -> str | None:
        """Why nothing can be written now, as a sentence; None if it can."""
        try:
            self.check()
        except DatabaseUnreachable:
            return "The database file was removed or replaced. Put it back, and restart the server."
        if not all(os.access(path, os.W_OK) for path in (self._path, self._path.absolute().parent)):
            return "The database file or its folder is read-only. Make both writable for the server."
        disk = os.statvfs(self._path.absolute().parent)
        if disk.f_bavail * disk.f_frsize < MIN_FREE_BYTES:
            return "The disk of the database is full. Free disk space."
        return None

    def _current(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino
