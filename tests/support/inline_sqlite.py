"""SQLite for simulations: statements run at once, in the thread of the event loop, in a repeatable order.

Replaces SQLAlchemy's aiosqlite connections during a block. Every connection belongs to the `Peer` that is
current at its creation: a server that can be killed (its open transaction is rolled back, as after kill -9)
and whose statements can be delayed. Writers wait for each other as at the file's lock, but as tasks, because
a thread cannot wait for itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

from sqlalchemy.dialects.sqlite.aiosqlite import AsyncAdapt_aiosqlite_dbapi
from sqlalchemy.util import await_only

Delay = Callable[[], float]
"""Virtual seconds that the next statement takes."""

current_peer: ContextVar[Peer] = ContextVar("current_peer")


class Gone(sqlite3.OperationalError):
    """The server of this connection was killed; its statements no longer reach the database."""


class Peer:
    """One server, as a client of the database."""

    def __init__(self, writing: asyncio.Lock, delay: Delay) -> None:
        self.writing = writing
        self.delay = delay
        self.dead = False
        self.connections: list[InlineConnection] = []

    def kill(self) -> None:
        """Roll back open transactions; every later statement fails."""
        self.dead = True
        for connection in self.connections:
            connection.abandon()


@contextmanager
def inline_sqlite() -> Iterator[None]:
    """During the block, new SQLite connections belong to the current peer."""
    with patch.object(AsyncAdapt_aiosqlite_dbapi, "connect", _connect):
        yield


def _connect(_dbapi: object, *args: Any, **kwargs: Any) -> InlineConnection:
    return InlineConnection(current_peer.get(), sqlite3.connect(*args, **kwargs))


class InlineConnection:
    """The interface of SQLAlchemy's wrapper around an aiosqlite connection."""

    def __init__(self, peer: Peer, raw: sqlite3.Connection) -> None:
        self.peer = peer
        self._raw = raw
        self._writes = False
        peer.connections.append(self)

    @property
    def isolation_level(self) -> str | None:
        return self._raw.isolation_level

    @isolation_level.setter
    def isolation_level(self, level: None) -> None:
        self._raw.isolation_level = level

    def create_function(self, *args: Any, **kwargs: Any) -> None:
        self._raw.create_function(*args, **kwargs)

    def cursor(self, server_side: bool = False) -> InlineCursor:
        self.check()
        return InlineCursor(self, self._raw.cursor())

    def commit(self) -> None:
        self.pause()
        self.check()
        self._raw.commit()
        self._end_writing()
        # A kill here is between the commit and its response: the commit holds.
        self.pause()
        self.check()

    def rollback(self) -> None:
        if not self.peer.dead:
            self._raw.rollback()
            self._end_writing()

    def close(self) -> None:
        if not self.peer.dead:
            self._raw.close()
            self._end_writing()

    def terminate(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Close the connection as the operating system does for a dead process."""
        with suppress(sqlite3.ProgrammingError):
            self._raw.rollback()
            self._raw.close()
        self._end_writing()

    def check(self) -> None:
        """Raises Gone if the server is dead."""
        if self.peer.dead:
            raise Gone("the server is dead")

    def pause(self) -> None:
        """Let other tasks run for the current delay of the peer."""
        if (seconds := self.peer.delay()) > 0:
            await_only(asyncio.sleep(seconds))

    def begin_writing(self) -> None:
        """Wait for the write lock of the file."""
        await_only(self.peer.writing.acquire())
        if self.peer.dead:
            self.peer.writing.release()
            raise Gone("the server is dead")
        self._writes = True

    def _end_writing(self) -> None:
        if self._writes:
            self._writes = False
            self.peer.writing.release()


class InlineCursor:
    """A cursor that reads all rows at once, as SQLAlchemy's aiosqlite cursor does."""

    def __init__(self, connection: InlineConnection, raw: sqlite3.Cursor) -> None:
        self._connection = connection
        self._raw = raw
        self._rows: list[Any] = []
        self.description: Any = None

    @property
    def rowcount(self) -> int:
        return self._raw.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._raw.lastrowid

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        if statement == "BEGIN IMMEDIATE":
            self._connection.begin_writing()
        self._prepare()
        self._raw.execute(statement, parameters)
        if (description := self._raw.description) is not None:
            self.description = description
            self._rows = self._raw.fetchall()

    def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
        self._prepare()
        self._raw.executemany(statement, parameters)

    def fetchone(self) -> Any:
        return self._rows.pop(0) if self._rows else None

    def fetchmany(self, size: int = 1) -> list[Any]:
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        return rows

    async def _async_soft_close(self) -> None:
        self.close()

    def close(self) -> None:
        with suppress(sqlite3.ProgrammingError):
            self._raw.close()

    def _prepare(self) -> None:
        # SQLAlchemy requires an await in an asynchronous driver.
        await_only(_NOTHING)
        self._connection.pause()
        self._connection.check()


class _Nothing(Awaitable[None]):
    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_NOTHING = _Nothing()
