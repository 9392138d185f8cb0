"""DATABASE_URL as an address: a SQLite file or a PostgreSQL target."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from hypervisor.errors import StartupError
from hypervisor.store.driver.refusals import EXAMPLES, refused
from hypervisor.store.driver.sqlite_url import SqliteFile, sqlite_file

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")


class PostgresConnector(Protocol):
    """Implemented by `postgres.PostgresTarget`, which is imported on demand: its driver takes megabytes."""

    @property
    def statement_cache(self) -> int | None: ...

    async def connect(self, settings: Mapping[str, str] | None = None, **options: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class DatabaseAddress:
    """A checked DATABASE_URL. Its text, `str(address)`, has neither driver nor password."""

    sqlite: SqliteFile | None = None
    postgres: PostgresConnector | None = None

    @property
    def is_sqlite(self) -> bool:
        return self.sqlite is not None

    @property
    def file(self) -> Path | None:
        """The file of SQLite; None on PostgreSQL."""
        return self.sqlite.path if self.sqlite is not None else None

    def __str__(self) -> str:
        return str(self.sqlite or self.postgres)

    def engine(self, settings: Mapping[str, str] | None = None, **options: Any) -> AsyncEngine:
        """An engine of SQLAlchemy. `settings` are for each session of PostgreSQL."""
        if self.postgres is not None:
            arguments = _connect_args(self.postgres, settings)
            return create_async_engine(URL.create("postgresql+asyncpg"), connect_args=arguments, **options)
        file = self.sqlite or SqliteFile(Path())
        url = URL.create("sqlite+aiosqlite", database=str(file.path))
        return create_async_engine(url, connect_args={"timeout": file.timeout}, **options)


def parse_database_url(url: str) -> DatabaseAddress:
    """Raises StartupError, in one line without the password, for a URL that no driver can use as written."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise refused(f"is not a database URL; {EXAMPLES}")
    backend = scheme.lower().partition("+")[0]
    if backend == "sqlite":
        return DatabaseAddress(sqlite=sqlite_file(rest))
    if backend in ("postgresql", "postgres"):
        driver = import_module("hypervisor.store.driver.postgres")
        return DatabaseAddress(postgres=driver.postgres_target(rest))
    raise StartupError(f"DATABASE_URL: {scheme!r} is not supported; {EXAMPLES}")


def _connect_args(target: PostgresConnector, settings: Mapping[str, str] | None) -> dict[str, Any]:
    """The arguments of SQLAlchemy's adapter of asyncpg, which hands none of them to `connect`."""

    async def connect() -> Any:
        return await target.connect(settings)

    arguments: dict[str, Any] = {"async_creator_fn": connect}
    if target.statement_cache is not None:
        arguments["prepared_statement_cache_size"] = target.statement_cache
    return arguments
