"""Engines and sessions. Read and write sessions are different types, so that a reader cannot commit.

SQLite: WAL, foreign keys on, and `BEGIN IMMEDIATE` for writers through a single connection. A deferred BEGIN
that becomes a write later fails under load; waiting in the pool does not.

PostgreSQL: server-side time-outs, so that a paused process cannot hold locks for long. Reads run outside of
transactions: at READ COMMITTED each statement sees the latest commits anyway, and BEGIN and ROLLBACK would
cost two round trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import InsertmanyvaluesSentinelOpts

from hypervisor.kernel.randomness import Random
from hypervisor.store.driver.address import DatabaseAddress, parse_database_url
from hypervisor.store.group_commit import GroupCommit
from hypervisor.store.pool_ping import ping_idle_connections, replace_read_only_connections
from hypervisor.store.sqlite_guard import SqliteGuard

K = TypeVar("K")
T = TypeVar("T")

SERIALIZATION_FAILURES = {"40001", "40P01"}
RETRIES = 3
MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.005, 0.05
ROWS_IN_ONE_INSERT = 100
"""On SQLite, which caches a prepared statement for each number of rows."""

POSTGRES_TIMEOUTS = {
    "idle_in_transaction_session_timeout": "5000",
    "statement_timeout": "5000",
    "lock_timeout": "2000",
}
POSTGRES_PLANS = {"jit": "off"}
"""JIT compilation takes up to a second; these queries take milliseconds."""


class ReadSession(AsyncSession):
    """A short session for committed rows. It must not change anything."""

    async def commit(self) -> None:
        raise TypeError("a ReadSession does not commit; open a write transaction")


class WriteSession(AsyncSession):
    """One transaction. The code that opened the session commits it, once."""


class ConcurrentWrite(Exception):
    """Another transaction has just committed a conflicting row: read again and retry."""


class Database:
    """The two session factories over one database. Close it with `await close()`."""

    def __init__(self, url: str, random: Random | None = None) -> None:
        """`random` spreads the retries of several processes; without it the pauses are fixed."""
        self._random = random
        self.address = parse_database_url(url)
        self.is_sqlite = self.address.is_sqlite
        self.after_commit: list[Callable[[], None]] = []
        """Called after each committed write transaction of this process. Must be quick and must not raise."""
        self._make_parent_folder()
        self._guard = SqliteGuard(self.address.file) if self.address.file is not None else None
        self._groups: dict[str, GroupCommit[Any, Any]] = {}
        self._write_engine = self._engine(writer=True)
        self._read_engine = (
            self._engine(writer=False)
            if self.is_sqlite
            else self._write_engine.execution_options(isolation_level="AUTOCOMMIT")
        )
        self._reads = async_sessionmaker(self._read_engine, class_=ReadSession, expire_on_commit=False)
        self.write_sessions: type[Session] = type("WritingSession", (Session,), {})
        """The class of every write session of this database, for event listeners."""
        self._writes = async_sessionmaker(
            self._write_engine,
            class_=WriteSession,
            sync_session_class=self.write_sessions,
            expire_on_commit=False,
        )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[ReadSession]:
        """A session for reading, rolled back at the end."""
        async with self._reads() as session:
            yield session

    @asynccontextmanager
    async def read_streaming(self) -> AsyncIterator[ReadSession]:
        """A session for reading many rows in parts. PostgreSQL allows a cursor only inside a transaction."""
        async with self._reads(bind=self._read_engine if self.is_sqlite else self._write_engine) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[WriteSession]:
        """One write transaction: committed when the block ends, rolled back when it raises."""
        async with self._writes() as session, session.begin():
            yield session
        for hint in self.after_commit:
            hint()

    async def transact(self, work: Callable[[WriteSession], Awaitable[T]]) -> T:
        """Run `work` in a write transaction; retry up to three times on deadlock or serialization failure.

        `work` must be safe to repeat: each try has a new session, and the failed one is rolled back.
        """
        for attempt in range(RETRIES + 1):
            try:
                async with self.write() as session:
                    return await work(session)
            except (DBAPIError, ConcurrentWrite) as error:
                if attempt == RETRIES or not _is_retryable(error):
                    raise
                await asyncio.sleep(self._backoff_seconds() * 2**attempt)
        raise AssertionError("unreachable")

    def read_group(
        self, name: str, work: Callable[[AsyncConnection, Sequence[K]], Awaitable[Sequence[T | Exception]]]
    ) -> GroupCommit[K, T]:
        """A group for concurrent reads: all concurrent requests share one connection and one `work`.

        Nothing is read before it is requested. `work` reads columns, not objects, because it has no session.
        Create each group once, at server start; `close` closes it. Raises ValueError for a name in use.
        """

        async def run(requests: Sequence[K]) -> Sequence[T | Exception]:
            async with self._read_engine.connect() as connection:
                return await work(connection, requests)

        return self._group(name, run)

    def write_group(
        self, name: str, work: Callable[[WriteSession, Sequence[K]], Awaitable[Sequence[T | Exception]]]
    ) -> GroupCommit[K, T]:
        """A group for concurrent writes: `transact` for all concurrent requests in one transaction.

        For a refused request `work` returns an error in place of the result, and writes nothing. Create each
        group once, as for `read_group`.
        """

        async def run(requests: Sequence[K]) -> Sequence[T | Exception]:
            return await self.transact(lambda session: work(session, requests))

        return self._group(name, run)

    async def write_obstacle(self) -> str | None:
        """Why nothing can be written now, as a sentence; None if it can. Raises the errors of a read."""
        if self._guard is not None:
            return await asyncio.to_thread(self._guard.obstacle)
        async with self.read() as session:
            read_only = await session.scalar(text("SELECT current_setting('transaction_read_only')"))
        if read_only == "off":
            return None
        # A session keeps this setting, and its server its role: the next sessions may be able to write.
        await self._write_engine.dispose()
        return "The database is read-only. Check that DATABASE_URL leads to the primary."

    async def close(self) -> None:
        for group in self._groups.values():
            await group.close()
        await self._read_engine.dispose()
        if self.is_sqlite:
            await self._write_engine.dispose()

    def _group(
        self, name: str, work: Callable[[Sequence[K]], Awaitable[Sequence[T | Exception]]]
    ) -> GroupCommit[K, T]:
        if name in self._groups:
            raise ValueError(f"there is a group {name!r} already")
        group: GroupCommit[K, T] = GroupCommit(name, work, _may_be_caused_by_one)
        self._groups[name] = group
        return group

    def _backoff_seconds(self) -> float:
        """Pause before the first retry."""
        if self._random is None:
            return MAX_BACKOFF_SECONDS
        return self._random.uniform(MIN_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS)

    def _make_parent_folder(self) -> None:
        if self.address.file is not None:
            self.address.file.parent.mkdir(parents=True, exist_ok=True)

    def _engine(self, *, writer: bool) -> AsyncEngine:
        if self._guard is not None:
            return _sqlite_engine(self.address, self._guard, writer=writer)
        engine = self.address.engine(POSTGRES_TIMEOUTS | POSTGRES_PLANS, pool_size=10, max_overflow=5)
        ping_idle_connections(engine)
        replace_read_only_connections(engine)
        return engine


def _sqlite_engine(address: DatabaseAddress, guard: SqliteGuard, *, writer: bool) -> AsyncEngine:
    engine = address.engine(
        pool_size=1 if writer else 5,
        max_overflow=0,
        pool_timeout=60,
        insertmanyvalues_page_size=ROWS_IN_ONE_INSERT,
    )
    # AUTOINCREMENT assigns ids in the order of VALUES, so one statement can insert many rows and return ids.
    engine.dialect.insertmanyvalues_implicit_sentinel = InsertmanyvaluesSentinelOpts.AUTOINCREMENT

    @event.listens_for(engine.sync_engine, "do_connect")
    def _check(*_arguments: object) -> None:
        # A connection would create an empty file in place of a removed one.
        guard.check()

    @event.listens_for(engine.sync_engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        guard.opened()
        # The driver must not open transactions: `_begin` sends BEGIN or BEGIN IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "foreign_keys=ON",
            "synchronous=FULL",
            "cache_size=-16384",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        guard.check()
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writer else "BEGIN")

    return engine


def _is_retryable(error: DBAPIError | ConcurrentWrite) -> bool:
    """Whether the same work may succeed in a new transaction."""
    if isinstance(error, ConcurrentWrite):
        return True
    return getattr(error.orig, "sqlstate", None) in SERIALIZATION_FAILURES


def _may_be_caused_by_one(error: Exception) -> bool:
    """Whether one request of a group may have caused the error; False if the database is unreachable."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated
    return not isinstance(error, PoolTimeout | OSError)
