"""What this room needs of the database: a connection for notifications."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class PostgresConnector(Protocol):
    """Implemented by `store.driver.postgres.PostgresTarget`."""

    async def connect(self, settings: Mapping[str, str] | None = None, **options: Any) -> Any:
        """A connection of asyncpg; `settings` are those of its session."""
