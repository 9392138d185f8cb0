"""Fixtures: the service in this process, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from limits import RateLimitItemPerMinute

from hypervisor.identity import policy
from hypervisor.infra.security import passwords
from tests.support.api import Api, running_api
from tests.support.world import World, new_world


@pytest.fixture
async def api(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """The API on a new database, with cheap hashes and without the login limit per address.

    All users of a test log in from one address.
    """
    monkeypatch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    monkeypatch.setattr(policy, "LOGINS_PER_ADDRESS", RateLimitItemPerMinute(1_000_000))
    async with running_api(database_url, tmp_path / "data") as started:
        yield started


@pytest.fixture
async def sqlite_api(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    """The API on SQLite, with the real limits and hashes, for tests that do not depend on the database."""
    async with running_api(sqlite_url, tmp_path / "data") as started:
        yield started


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """The control loops and a small cluster, on SQLite and on PostgreSQL."""
    async with new_world(database_url, tmp_path) as opened:
        yield opened
