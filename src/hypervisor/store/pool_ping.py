"""Replacement of pooled connections that are of no more use.

They are pinged after idle time, instead of before each use.

A database server that goes down closes its connections, which the driver notices without a ping. A lost
network or a failover behind one address shows only in the next response. A ping finds it first, but costs a
round trip, so only connections that were idle for a while are pinged.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

IDLE_SECONDS = 1.0
READ_ONLY_SQLSTATE = "25006"
_IDLE_SINCE = "idle since"


def ping_idle_connections(engine: AsyncEngine) -> None:
    """Replace dead connections of this asyncpg engine at checkout."""
    pool, dialect = engine.sync_engine.pool, engine.dialect

    @event.listens_for(pool, "checkin")
    def _note(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info[_IDLE_SINCE] = time.monotonic()

    @event.listens_for(pool, "checkout")
    def _check(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        driver: Any = entry.driver_connection
        if driver.is_closed():
            raise InvalidatePoolError("the database closed the connection")
        if time.monotonic() - entry.info.get(_IDLE_SINCE, time.monotonic()) < IDLE_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except (dialect.loaded_dbapi.Error, OSError) as error:
            raise InvalidatePoolError(f"the database does not respond: {error}") from error


def replace_read_only_connections(engine: AsyncEngine) -> None:
    """Drop all connections after a refused write: after a failover they lead to a standby."""

    @event.listens_for(engine.sync_engine, "handle_error")
    def _drop(context: ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY_SQLSTATE:
            context.is_disconnect = True
