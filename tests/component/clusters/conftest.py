from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.teams import Team, team_at_rest


@pytest.fixture
async def team(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    """A team on an API without control loops, on SQLite and on PostgreSQL."""
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as created:
        yield created
