"""A link over PostgreSQL's LISTEN and NOTIFY, on a connection of its own.

Hints are sent after the commit that they tell of, not inside its transaction: a NOTIFY in a transaction takes
a lock of the whole database server at its commit, and every accepted deployment would queue for it.
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
    # A NOTIFY is a commit of its own; nobody needs that on the disk.
    "synchronous_commit": "off",
}
_OF_SQLALCHEMY = ("prepared_statement_cache_size", "prepared_statement_name_func")


def postgres_link(url: URL) -> OpenLink:
    """Links over the database at `url`; the channel is that of the database, so others do not hear it."""
    _, options = url.get_dialect()().create_connect_args(url)
    options = {name: value for name, value in options.items() if name not in _OF_SQLALCHEMY}

    @asynccontextmanager
    async def connect(hear: MessageHandler, lose: Callable[[], None]) -> AsyncIterator[Link]:
        connection = await asyncpg.connect(
            **options,
            timeout=CONNECT_TIMEOUT_SECONDS,
            command_timeout=COMMAND_TIMEOUT_SECONDS,
            server_settings=_SETTINGS,
        )
        try:
            connection.add_termination_listener(lambda _: lose())
            await connection.add_listener(_CHANNEL, lambda *heard: hear(heard[-1]))
            yield _PostgresLink(connection)
        finally:
            connection.terminate()

    return connect


class _PostgresLink:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def send(self, payload: str) -> None:
        await self._connection.execute("SELECT pg_notify($1, $2)", _CHANNEL, payload)
