"""SQLite for simulations: the statements run at once, in the event loop's own thread, in a repeatable order.

Takes the place of what SQLAlchemy makes of aiosqlite while a block lasts. Every connection belongs to the
`Peer` that is current when it is made: a server that can be killed (its open transaction is rolled back, as
after kill -9) and whose statements can be delayed. Writers wait for each other as they would at the file's
lock, but as tasks, because one thread cannot wait for itself.
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
    """The server that made this connection has been killed: nothing of it reaches the database."""


class Peer:
    """One server as the database sees it."""

    def __init__(self, writing: asyncio.Lock, delay: Delay) -> None:
        self.writing = writing
        self.delay = delay
        self.dead = False
        self.connections: list[InlineConnection] = []

    def kill(self) -> None:
        """From now on every statement fails, and what was not committed is gone."""
        self.dead = True
        for connection in self.connections:
            connection.abandon()


@contextmanager
def inline_sqlite() -> Iterator[None]:
    """While the block lasts, new SQLite engines use connections of the current peer."""
    with patch.object(AsyncAdapt_aiosqlite_dbapi, "connect", _connect):
        yield


def _connect(_dbapi: object, *args: Any, **kwargs: Any) -> InlineConnection:
    return InlineConnection(current_peer.get(), sqlite3.connect(*args, **kwargs))


class InlineConnection:
    """What SQLAlchemy's dialect asks of its own wrapper around a connection of aiosqlite."""

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
        # Killed between the commit and its answer: it holds, but nobody here knows.
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
        """What the system does with the connections of a process that has died."""
        with suppress(sqlite3.ProgrammingError):
            self._raw.rollback()
            self._raw.close()
        self._end_writing()

    def check(self) -> None:
        """Raises Gone after the server's death."""
        if self.peer.dead:
            raise Gone("the server is dead")

    def pause(self) -> None:
        """Let others run, for as long as the peer's statements take now."""
        if (seconds := self.peer.delay()) > 0:
            await_only(asyncio.sleep(seconds))

    def begin_writing(self) -> None:
        """Wait for the one writer that a file has."""
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
    """A cursor that reads all rows at once, as the one does whose place it takes."""

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
        # SQLAlchemy insists on something to wait for in what is said to be asynchronous.
        await_only(_NOTHING)
        self._connection.pause()
        self._connection.check()


class _Nothing(Awaitable[None]):
    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


_NOTHING = _Nothing()
