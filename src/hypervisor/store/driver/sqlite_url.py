"""The file of a `sqlite:///` URL."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from hypervisor.store.driver.libpq_defaults import Parameter
from hypervisor.store.driver.numbers import seconds
from hypervisor.store.driver.refusals import refused

BUSY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """The path as written, and the time to wait for a lock, in seconds."""

    path: Path
    timeout: float = BUSY_SECONDS

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


def sqlite_file(rest: str) -> SqliteFile:
    """The file of the URL `sqlite://<rest>`. Raises StartupError."""
    location, _, query = rest.partition("?")
    host, _, path = location.partition("/")
    if host:
        raise refused(
            "has two slashes before a file, where a host would be; write sqlite:///relative.db or "
            "sqlite:////absolute.db"
        )
    _check_path(path)
    return SqliteFile(Path(path), _timeout(query))


def _check_path(path: str) -> None:
    if path in ("", ":memory:"):
        raise refused("names no file; use sqlite:///path/to.db")
    if path.startswith("file:"):
        raise refused("has a file: URI, which is not supported; write the path, sqlite:///path/to.db")
    if path.startswith("~"):
        raise refused("has a ~, which is not expanded; write the whole path, sqlite:////home/user/to.db")
    if "\0" in path or path.endswith("/") or Path(path).is_dir():
        raise refused("names a folder; write the file, sqlite:///path/to.db")


def _timeout(query: str) -> float:
    timeout = BUSY_SECONDS
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "timeout":
            raise refused(f"has the parameter {name!r}, which is not supported for SQLite; remove it")
        timeout = seconds(Parameter(value, "DATABASE_URL: timeout"), BUSY_SECONDS)
    return timeout
