from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.teams import Team, team_at_rest


@pytest.fixture
async def team(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    """A team on an API without control loops, for tests that do not depend on the database."""
    async with team_at_rest(sqlite_url, tmp_path / "data", monkeypatch) as created:
        yield created
