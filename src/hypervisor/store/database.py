"""Engines and sessions. Reads and writes are different types, so that a reader cannot commit by accident.

SQLite: WAL, foreign keys on, `BEGIN IMMEDIATE` for writers through a single connection (a deferred BEGIN that
turns into a write later fails under load; queueing in the pool does not). PostgreSQL: server-side
time-outs, so that a paused process cannot hold locks for long.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import Session

from hypervisor.errors import StartupError

T = TypeVar("T")

SERIALIZATION_FAILURES = {"40001", "40P01"}
RETRIES = 3

POSTGRES_TIMEOUTS = {
    "idle_in_transaction_session_timeout": "5000",
    "statement_timeout": "5000",
    "lock_timeout": "2000",
}


class ReadSession(AsyncSession):
    """A short look at committed rows; nothing may be changed through it."""

    async def commit(self) -> None:
        raise TypeError("a ReadSession does not commit; open a write transaction")


class WriteSession(AsyncSession):
    """One transaction, committed once at the edge by whoever opened it."""


def normalise_url(url: str) -> URL:
    """Accept `sqlite://` and `postgresql://` (also `postgres://`) and name the async driver.

    Raises StartupError for anything else.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StartupError(
            "DATABASE_URL is not a database URL; use sqlite:///path/to.db or postgresql://user@host/db"
        ) from None
    backend = parsed.drivername.split("+")[0]
    if backend == "sqlite":
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+asyncpg")
    raise StartupError(f"DATABASE_URL: {backend!r} is not supported; use sqlite:/// or postgresql://")


class Database:
    """The two session factories over one database. Close it with `await close()`."""

    def __init__(self, url: str) -> None:
        self.url = normalise_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.after_commit: list[Callable[[], None]] = []
        """Called after each write transaction of this process was committed; must be quick and not raise."""
        self._make_parent_folder()
        self._read_engine = self._engine(writer=False)
        self._write_engine = self._engine(writer=True) if self.is_sqlite else self._read_engine
        self._reads = async_sessionmaker(self._read_engine, class_=ReadSession, expire_on_commit=False)
        self.write_sessions: type[Session] = type("WritingSession", (Session,), {})
        """The class under every write transaction of this database, for listening to what they change."""
        self._writes = async_sessionmaker(
            self._write_engine,
            class_=WriteSession,
            sync_session_class=self.write_sessions,
            expire_on_commit=False,
        )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """A session for reading; rolled back at the end."""
        async with self._reads() as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """One write transaction: committed when the block ends, rolled back when it raises."""
        async with self._writes() as session, session.begin():
            yield session
        for hint in self.after_commit:
            hint()

    async def transact(self, work: Callable[[WriteSession], Awaitable[T]]) -> T:
        """Run `work` in a write transaction, again up to three times on deadlock or serialization failure.

        `work` must be safe to run again: it sees a fresh session and nothing of the failed try remains.
        """
        for attempt in range(RETRIES + 1):
            try:
                async with self.write() as session:
                    return await work(session)
            except DBAPIError as error:
                if attempt == RETRIES or not _is_serialization_failure(error):
                    raise
                await asyncio.sleep(random.uniform(0.005, 0.05) * 2**attempt)
        raise AssertionError("unreachable")

    async def close(self) -> None:
        await self._read_engine.dispose()
        if self._write_engine is not self._read_engine:
            await self._write_engine.dispose()

    def _make_parent_folder(self) -> None:
        if self.is_sqlite and self.url.database not in (None, "", ":memory:"):
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)

    def _engine(self, *, writer: bool) -> AsyncEngine:
        if self.is_sqlite:
            return _sqlite_engine(self.url, writer=writer)
        return create_async_engine(
            self.url,
            pool_size=10,
            max_overflow=5,
            pool_pre_ping=True,
            connect_args={"server_settings": POSTGRES_TIMEOUTS, "timeout": 10},
        )


def _sqlite_engine(url: URL, *, writer: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=1 if writer else 5,
        max_overflow=0,
        pool_timeout=60,
        connect_args={"timeout": 10},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        # The driver must not open transactions by itself: we say BEGIN (IMMEDIATE).
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",
            "busy_timeout=10000",
            "cache_size=-16384",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _is_serialization_failure(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) in SERIALIZATION_FAILURES
