"""Whether a pooled connection still lives is asked after a rest, not each time that it is used.

A server that went down has closed its connections, which is known here without asking. What only the other
end knows (a lost network, a failover behind one address) shows in the next answer either way: asking first
helps those that come back after a while, and costs everybody else a round trip.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import ConnectionPoolEntry

RESTED_SECONDS = 1.0
_RESTS_SINCE = "rests since"


def check_rested_connections(engine: AsyncEngine) -> None:
    """Replace connections of this asyncpg engine that have ended, before they are handed out."""
    pool, dialect = engine.sync_engine.pool, engine.dialect

    @event.listens_for(pool, "checkin")
    def _note(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info[_RESTS_SINCE] = time.monotonic()

    @event.listens_for(pool, "checkout")
    def _check(connection: Any, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        driver: Any = entry.driver_connection
        if driver.is_closed():
            raise InvalidatePoolError("the database closed the connection")
        if time.monotonic() - entry.info.get(_RESTS_SINCE, time.monotonic()) < RESTED_SECONDS:
            return
        try:
            dialect.do_ping(connection)
        except (dialect.loaded_dbapi.Error, OSError) as error:
            raise InvalidatePoolError(f"the database does not answer: {error}") from error
