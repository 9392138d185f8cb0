"""Silences the logs of the simulated servers."""

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
