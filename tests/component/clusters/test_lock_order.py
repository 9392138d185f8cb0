"""Requests and loops lock in one order: deployments, attempts, nodes. Another order would deadlock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, text

from hypervisor.store.tables import Attempt, Deployment, Node
from tests.support.api import ok
from tests.support.teams import Team, team_at_rest
from tests.support.wait import eventually


@pytest.fixture
async def team(postgresql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    """On PostgreSQL only: SQLite has one writer at a time."""
    async with team_at_rest(postgresql_url, tmp_path / "data", monkeypatch) as created:
        yield created


async def test_a_drain_locks_the_deployment_before_the_node(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work")
    database = team.api.services.database
    async with database.read() as session:
        node_id = await session.scalar(select(Attempt.node_id).where(Attempt.deployment_id == work["id"]))
    assert node_id is not None
    drain = f"/api/v1/clusters/{cluster['id']}/nodes/{node_id}/drain"
    async with database.write() as session:
        await session.get_one(Deployment, work["id"], with_for_update=True)
        request = asyncio.create_task(team.admin.post(drain))
        await eventually(lambda: _transaction_waits(team), what="the drain waits for the deployment")
        # The next lock of a loop. If the drain held the node already, this would be a deadlock.
        node = select(Node.id).where(Node.id == node_id).with_for_update(key_share=True, nowait=True)
        assert await session.scalar(node) == node_id
    assert ok(await request)["draining"]
    assert (await team.get(work))["status"] == "STOPPING"


async def _transaction_waits(team: Team) -> bool:
    async with team.api.services.database.read() as session:
        waiting = await session.scalar(
            text(
                "SELECT count(*) FROM pg_stat_activity "
                "WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
    return bool(waiting)
