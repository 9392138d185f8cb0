"""An installation for each crash test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.rig import Rig, running_rig


@pytest.fixture
def rig(postgresql_url: str, tmp_path: Path) -> Iterator[Rig]:
    with running_rig(tmp_path / "rig", postgresql_url) as furnished:
        yield furnished
