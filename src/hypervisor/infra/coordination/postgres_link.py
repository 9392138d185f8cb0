"""A link over PostgreSQL's LISTEN and NOTIFY, on a dedicated connection.

A hint is sent after its commit, not inside the transaction: there a NOTIFY takes a lock of the whole database
server at commit, and every submit would wait for that lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy.engine import URL

from hypervisor.infra.coordination.bus import Link, MessageHandler, OpenLink

CONNECT_TIMEOUT_SECONDS = 10.0
COMMAND_TIMEOUT_SECONDS = 5.0
_CHANNEL = "hypervisor_hints"
_SETTINGS = {
    "application_name": "hypervisor hints",
    # Each NOTIFY is a commit. Its durability is not needed.
    "synchronous_commit": "off",
}
_SQLALCHEMY_OPTIONS = ("prepared_statement_cache_size", "prepared_statement_name_func")


def postgres_link(url: URL) -> OpenLink:
    """Links over the database at `url`. The channel belongs to the database, so others do not receive it."""
    _, options = url.get_dialect()().create_connect_args(url)
    options = {name: value for name, value in options.items() if name not in _SQLALCHEMY_OPTIONS}

    @asynccontextmanager
    async def connect(receive: MessageHandler, mark_lost: Callable[[], None]) -> AsyncIterator[Link]:
        connection = await asyncpg.connect(
            **options,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            server_settings=_SETTINGS,
        )
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
