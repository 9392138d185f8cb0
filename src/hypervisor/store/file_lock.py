"""The lock that allows only one server process per SQLite file."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypervisor.errors import StartupError
from hypervisor.store.driver.address import parse_database_url


@contextmanager
def sole_server(database_url: str) -> Iterator[None]:
    """Hold a lock on `<database>.lock`. The kernel releases it when the process ends, also after a crash.

    Does nothing for PostgreSQL. Raises StartupError when another server holds the lock.
    """
    file = parse_database_url(database_url).file
    if file is None:
        yield
        return
    path = Path(f"{file}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        database = str(path).removesuffix(".lock")
        raise StartupError(
            f"another server (process {holder}) uses {database}; stop it, or set DATABASE_URL to another "
            "file or to PostgreSQL"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
