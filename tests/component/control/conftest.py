from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.world import World, new_world


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world on SQLite and on PostgreSQL."""
    async with new_world(database_url, tmp_path) as made:
        yield made
