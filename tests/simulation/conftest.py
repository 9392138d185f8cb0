"""Dying servers have much to say; nobody reads it a thousand times."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.history import silence


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    before = structlog.get_config()
    silence()
    yield
    structlog.configure(**before)
