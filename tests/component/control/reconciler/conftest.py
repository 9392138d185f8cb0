"""An installation on the machine's engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hypervisor.lifecycle import conclude
from tests.support import docker
from tests.support.docker_site import DockerSite, docker_site


@pytest.fixture
async def site(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[DockerSite]:
    """A site whose retries start at once."""
    if reason := docker.why_no_docker():
        pytest.skip(reason)
    monkeypatch.setattr(conclude, "MIN_BACKOFF_SECONDS", 0.0)
    monkeypatch.setattr(conclude, "MAX_BACKOFF_SECONDS", 0.0)
    async with docker_site(database_url, tmp_path) as opened:
        yield opened
