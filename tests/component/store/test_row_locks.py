"""Row locks on PostgreSQL: the second of two transactions waits for the first and sees its changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from hypervisor.control.allocations.capacity import lock_nodes
from hypervisor.identity.repository import consume_refresh_token
from hypervisor.kernel.roles import Role
from hypervisor.organizations.repository import consume_invite
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import (
    Allocation,
    Attempt,
    Cluster,
    Deployment,
    Invite,
    LoginSession,
    Node,
    Organization,
    RefreshToken,
    User,
)
from tests.support.wait import PROMPT, eventually

NOW = datetime(2030, 1, 1, tzinfo=UTC)

Work = Callable[[WriteSession], Awaitable[Any]]


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    opened = Database(postgresql_url)
    async with opened.write() as session:
        session.add(
            User(
                id=1,
                username="a",
                username_normalized="a",
                email="a",
                email_normalized="a",
                password_hash="-",
                created_at=NOW,
            )
        )
        session.add(Organization(id=1, name="o", name_normalized="o", created_at=NOW))
        await session.flush()
        session.add(
            Cluster(
                id=1,
                organization_id=1,
                name="c",
                runtime="simulated",
                resolved_runtime="simulated",
                created_at=NOW,
            )
        )
        await session.flush()
        session.add(
            Node(id=1, cluster_id=1, name="n", cpu_milli=1000, ram_mib=1000, labels={}, created_at=NOW)
        )
    yield opened
    await opened.close()


async def test_the_use_of_a_node_is_summed_after_its_lock(database: Database) -> None:
    """Otherwise two schedulers could allocate the same capacity."""

    async def claim(session: WriteSession) -> int:
        capacity = (await lock_nodes(session, [1]))[1]
        free = capacity.node.cpu_milli - capacity.cpu_milli
        if free:
            await _allocate(session, free)
        return free

    assert await _both(database, claim) == (1000, 0)


async def test_a_refresh_token_is_used_up_once(database: Database) -> None:
    async with database.write() as session:
        later = NOW + timedelta(days=1)
        session.add(LoginSession(id="s", user_id=1, created_at=NOW, expires_at=later))
        await session.flush()
        session.add(RefreshToken(session_id="s", token_hash="t", created_at=NOW, expires_at=later))

    async def use(session: WriteSession) -> str | None:
        return await consume_refresh_token(session, "t", NOW)

    assert await _both(database, use) == ("s", None)


async def test_the_last_use_of_an_invite_is_taken_once(database: Database) -> None:
    async with database.write() as session:
        invite = Invite(
            organization_id=1, code_hash="h", code_encrypted="-", role="viewer", created_at=NOW, max_uses=1
        )
        session.add(invite)

    async def use(session: WriteSession) -> Role | None:
        return await consume_invite(session, "h", NOW)

    assert await _both(database, use) == (Role.VIEWER, None)


async def _both(database: Database, work: Work) -> tuple[Any, Any]:
    """Run the same work twice: the second starts before the first commits."""

    async def second() -> Any:
        async with database.write() as session:
            return await work(session)

    async with database.write() as session:
        first = await work(session)
        await session.flush()
        other = asyncio.create_task(second())

        async def waits() -> bool:
            async with database.read() as reader:
                query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                blocked = await reader.scalar(text(f"{query} AND datname = current_database()"))
            return other.done() or bool(blocked)

        await eventually(waits, what="the second waits or has finished")
    return first, await asyncio.wait_for(other, PROMPT)


async def _allocate(session: WriteSession, cpu: int) -> None:
    deployment = Deployment(
        organization_id=1,
        cluster_id=1,
        name="d",
        kind="job",
        cpu_milli=cpu,
        ram_mib=0,
        priority=500,
        restart_policy="never",
        state="STARTING",
        created_at=NOW,
    )
    session.add(deployment)
    await session.flush()
    attempt = Attempt(
        deployment_id=deployment.id,
        organization_id=1,
        cluster_id=1,
        node_id=1,
        node_name="n",
        number=1,
        runtime="simulated",
        instance="hv-abcd-1-1-0",
        created_at=NOW,
    )
    session.add(attempt)
    await session.flush()
    session.add(
        Allocation(
            attempt_id=attempt.id,
            deployment_id=deployment.id,
            cluster_id=1,
            node_id=1,
            cpu_milli=cpu,
            ram_mib=0,
            gpu_milli=0,
        )
    )
