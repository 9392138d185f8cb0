"""Engines and sessions. Reads and writes are different types, so that a reader cannot commit by accident.

SQLite: WAL, foreign keys on, `BEGIN IMMEDIATE` for writers through a single connection (a deferred BEGIN that
turns into a write later fails under load; queueing in the pool does not). PostgreSQL: server-side
time-outs, so that a paused process cannot hold locks for long; reads outside of transactions, because at READ
COMMITTED each statement sees what is committed then anyway, and BEGIN and ROLLBACK are two round trips.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import InsertmanyvaluesSentinelOpts

from hypervisor.errors import StartupError
from hypervisor.kernel.randomness import Random
from hypervisor.store.group_commit import GroupCommit
from hypervisor.store.pool_ping import check_rested_connections

K = TypeVar("K")
T = TypeVar("T")

SERIALIZATION_FAILURES = {"40001", "40P01"}
RETRIES = 3
SHORTEST_PAUSE, LONGEST_PAUSE = 0.005, 0.05
ROWS_IN_ONE_INSERT = 100
"""On SQLite, which keeps prepared statements of each length."""

POSTGRES_TIMEOUTS = {
    "idle_in_transaction_session_timeout": "5000",
    "statement_timeout": "5000",
    "lock_timeout": "2000",
}
POSTGRES_PLANS = {"jit": "off"}
"""Compiling a plan takes up to a second, and is tried where a lot is expected: ours take milliseconds."""


class ReadSession(AsyncSession):
    """A short look at committed rows; nothing may be changed through it."""

    async def commit(self) -> None:
        raise TypeError("a ReadSession does not commit; open a write transaction")


class WriteSession(AsyncSession):
    """One transaction, committed once at the edge by whoever opened it."""


class ConcurrentWrite(Exception):
    """Another transaction has just committed what this one was about to write: it has to look again."""


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
        if parsed.database in (None, "", ":memory:"):
            raise StartupError("DATABASE_URL names no file; use sqlite:///path/to.db")
        return parsed.set(drivername="sqlite+aiosqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+asyncpg")
    raise StartupError(f"DATABASE_URL: {backend!r} is not supported; use sqlite:/// or postgresql://")


class Database:
    """The two session factories over one database. Close it with `await close()`."""

    def __init__(self, url: str, random: Random | None = None) -> None:
        """`random` spreads the retries of several processes; without it the pauses are fixed."""
        self._random = random
        self.url = normalise_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.after_commit: list[Callable[[], None]] = []
        """Called after each write transaction of this process was committed; must be quick and not raise."""
        self._make_parent_folder()
        self._groups: dict[str, GroupCommit[Any, Any]] = {}
        self._write_engine = self._engine(writer=True)
        self._read_engine = (
            self._engine(writer=False)
            if self.is_sqlite
            else self._write_engine.execution_options(isolation_level="AUTOCOMMIT")
        )
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
    async def read_at_length(self) -> AsyncIterator[ReadSession]:
        """A session for reading many rows in parts: in one transaction, or PostgreSQL gives no cursor."""
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
        """Run `work` in a write transaction, again up to three times on deadlock or serialization failure.

        `work` must be safe to run again: it sees a fresh session and nothing of the failed try remains.
        """
        for attempt in range(RETRIES + 1):
            try:
                async with self.write() as session:
                    return await work(session)
            except (DBAPIError, ConcurrentWrite) as error:
                if attempt == RETRIES or not _may_go_better(error):
                    raise
                await asyncio.sleep(self._pause() * 2**attempt)
        raise AssertionError("unreachable")

    def read_group(
        self, name: str, work: Callable[[AsyncConnection, Sequence[K]], Awaitable[Sequence[T | Exception]]]
    ) -> GroupCommit[K, T]:
        """Reads that are made at the same time and share one connection and one call of `work`.

        Nothing is read before it was asked for. `work` reads columns, not objects: there is no session. Made
        once, at the start of the server, and closed with the database. Raises ValueError for a name in use.
        """

        async def answer(questions: Sequence[K]) -> Sequence[T | Exception]:
            async with self._read_engine.connect() as connection:
                return await work(connection, questions)

        return self._group(name, answer)

    def write_group(
        self, name: str, work: Callable[[WriteSession, Sequence[K]], Awaitable[Sequence[T | Exception]]]
    ) -> GroupCommit[K, T]:
        """Writes that come at the same time and share one transaction, which is a `transact` of `work`.

        What `work` refuses it returns as an error in the place of the answer, and writes nothing for it. Made
        once, like a `read_group`.
        """

        async def answer(questions: Sequence[K]) -> Sequence[T | Exception]:
            return await self.transact(lambda session: work(session, questions))

        return self._group(name, answer)

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
        group: GroupCommit[K, T] = GroupCommit(name, work, _may_be_of_one)
        self._groups[name] = group
        return group

    def _pause(self) -> float:
        """Seconds before the first retry."""
        return LONGEST_PAUSE if self._random is None else self._random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)

    def _make_parent_folder(self) -> None:
        if self.is_sqlite:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)

    def _engine(self, *, writer: bool) -> AsyncEngine:
        if self.is_sqlite:
            return _sqlite_engine(self.url, writer=writer)
        engine = create_async_engine(
            self.url,
            pool_size=10,
            max_overflow=5,
            connect_args={"server_settings": POSTGRES_TIMEOUTS | POSTGRES_PLANS, "timeout": 10},
        )
        check_rested_connections(engine)
        return engine


def _sqlite_engine(url: URL, *, writer: bool) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=1 if writer else 5,
        max_overflow=0,
        pool_timeout=60,
        connect_args={"timeout": 10},
        insertmanyvalues_page_size=ROWS_IN_ONE_INSERT,
    )
    # AUTOINCREMENT gives ids in the order of VALUES: many rows go in one statement and find their ids again.
    engine.dialect.insertmanyvalues_implicit_sentinel = InsertmanyvaluesSentinelOpts.AUTOINCREMENT

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


def _may_go_better(error: DBAPIError | ConcurrentWrite) -> bool:
    """Whether the same work may succeed in a new transaction."""
    if isinstance(error, ConcurrentWrite):
        return True
    return getattr(error.orig, "sqlstate", None) in SERIALIZATION_FAILURES


def _may_be_of_one(error: Exception) -> bool:
    """Whether others of a group may succeed without whoever caused this; not where there is no database."""
    if isinstance(error, DBAPIError):
        return not error.connection_invalidated
    return not isinstance(error, PoolTimeout | OSError)
