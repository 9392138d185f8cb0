"""One zygote for all crash tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.rig import Rig, rig_on
from tests.chaos.server import Zygote


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    started = Zygote()
    yield started
    started.close()


@pytest.fixture
def rig(zygote: Zygote, postgresql_url: str, tmp_path) -> Iterator[Rig]:
    with rig_on(zygote, tmp_path / "rig", postgresql_url) as furnished:
        yield furnished
