"""SQLite for simulations: the statements run at once, in the event loop's own thread, in a repeatable order.

Takes the place of `aiosqlite.connect` while a block lasts. Every connection belongs to the `Peer` that is
current when it is made: a server that can be killed (its open transaction is rolled back, as after kill -9)
and whose statements can be delayed. Writers wait for each other as they would at the file's lock, but as
tasks, because one thread cannot wait for itself.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any
from unittest.mock import patch

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
        self.commits = 0
        self.connections: list[InlineConnection] = []

    def kill(self) -> None:
        """From now on every statement fails, and what was not committed is gone."""
        self.dead = True
        for connection in self.connections:
            connection.abandon()


@contextmanager
def inline_sqlite() -> Iterator[None]:
    """While the block lasts, new SQLite engines use connections of the current peer."""
    with patch("aiosqlite.connect", _connect):
        yield


def _connect(*args: Any, **kwargs: Any) -> InlineConnection:
    return InlineConnection(current_peer.get(), sqlite3.connect(*args, **kwargs))


class InlineConnection:
    """What SQLAlchemy's dialect asks of a connection of aiosqlite."""

    def __init__(self, peer: Peer, raw: sqlite3.Connection) -> None:
        self.peer = peer
        self._conn = raw
        self._connection: sqlite3.Connection | None = raw
        self._tx = _Calls()
        self._thread = _NoThread()
        self._writes = False
        peer.connections.append(self)

    def __await__(self) -> Any:
        return self._ready().__await__()

    async def _ready(self) -> InlineConnection:
        return self

    @property
    def isolation_level(self) -> str | None:
        return self._conn.isolation_level

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        self._conn.create_function(*args, **kwargs)

    def cursor(self) -> InlineCursor:
        self.check()
        return InlineCursor(self, self._conn.cursor())

    async def commit(self) -> None:
        await self.pause()
        self.check()
        if self._conn.in_transaction and self._writes:
            self.peer.commits += 1
        self._conn.commit()
        self._end_writing()
        # Killed between the commit and its answer: it holds, but nobody here knows.
        await self.pause()
        self.check()

    async def rollback(self) -> None:
        if not self.peer.dead:
            self._conn.rollback()
            self._end_writing()

    async def close(self) -> None:
        if not self.peer.dead:
            self._conn.close()
            self._end_writing()

    def stop(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """What the system does with the connections of a process that has died."""
        with suppress(sqlite3.ProgrammingError):
            self._conn.rollback()
            self._conn.close()
        self._end_writing()

    def check(self) -> None:
        """Raises Gone after the server's death."""
        if self.peer.dead:
            raise Gone("the server is dead")

    async def pause(self) -> None:
        """Let others run, for as long as the peer's statements take now."""
        if (seconds := self.peer.delay()) > 0:
            await asyncio.sleep(seconds)

    async def begin_writing(self) -> None:
        """Wait for the one writer that a file has."""
        await self.peer.writing.acquire()
        if self.peer.dead:
            self.peer.writing.release()
            raise Gone("the server is dead")
        self._writes = True

    def _end_writing(self) -> None:
        if self._writes:
            self._writes = False
            self.peer.writing.release()


class InlineCursor:
    """A cursor whose awaitables are ready at once."""

    def __init__(self, connection: InlineConnection, raw: sqlite3.Cursor) -> None:
        self._connection = connection
        self._raw = raw
        self.arraysize = raw.arraysize

    @property
    def description(self) -> Any:
        return self._raw.description

    @property
    def rowcount(self) -> int:
        return self._raw.rowcount

    @property
    def lastrowid(self) -> int | None:
        return self._raw.lastrowid

    async def __aenter__(self) -> InlineCursor:
        return self

    async def execute(self, statement: str, parameters: Sequence[Any] = ()) -> InlineCursor:
        if statement == "BEGIN IMMEDIATE":
            await self._connection.begin_writing()
        await self._connection.pause()
        self._connection.check()
        self._raw.execute(statement, parameters)
        return self

    async def executemany(self, statement: str, parameters: Sequence[Sequence[Any]]) -> InlineCursor:
        await self._connection.pause()
        self._connection.check()
        self._raw.executemany(statement, parameters)
        return self

    async def fetchone(self) -> Any:
        return self._raw.fetchone()

    async def fetchmany(self, size: int = 1) -> list[Any]:
        return self._raw.fetchmany(size)

    async def fetchall(self) -> list[Any]:
        return self._raw.fetchall()

    async def close(self) -> None:
        with suppress(sqlite3.ProgrammingError):
            self._raw.close()


class _Calls:
    """Stands for the queue into aiosqlite's thread: a call that is put here has been made."""

    def put_nowait(self, item: tuple[asyncio.Future[Any], Callable[[], Any]]) -> None:
        future, call = item
        future.set_result(call())


class _NoThread:
    daemon = True
