"""A link over PostgreSQL's LISTEN and NOTIFY, on a dedicated connection.

A hint is sent after its commit, not inside the transaction: there a NOTIFY takes a lock of the whole database
server at commit, and every submit would wait for that lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from hypervisor.infra.coordination.bus import Link, MessageHandler, OpenLink
from hypervisor.infra.coordination.postgres_connector import PostgresConnector

COMMAND_TIMEOUT_SECONDS = 5.0
_CHANNEL = "hypervisor_hints"
_SETTINGS = {
    "application_name": "hypervisor hints",
    # Each NOTIFY is a commit. Its durability is not needed.
    "synchronous_commit": "off",
}


def postgres_link(database: PostgresConnector) -> OpenLink:
    """Links over a database. The channel belongs to the database, so others do not receive it."""

    @asynccontextmanager
    async def connect(receive: MessageHandler, mark_lost: Callable[[], None]) -> AsyncIterator[Link]:
        connection = await database.connect(_SETTINGS, command_timeout=COMMAND_TIMEOUT_SECONDS)
        try:
            connection.add_termination_listener(lambda _: mark_lost())
            await connection.add_listener(_CHANNEL, lambda *notification: receive(notification[-1]))
            yield _PostgresLink(connection)
        finally:
            connection.terminate()

    return connect


class _PostgresLink:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, payload: str) -> None:
        await self._connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)
