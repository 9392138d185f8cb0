"""Listeners hear at once what another replica committed; the poll is too far away to explain it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager

import pytest

from hypervisor.events import relay as relay_module
from hypervisor.events.log import record
from hypervisor.events.relay import EventRelay, follow
from hypervisor.infra.coordination.connect import connect
from hypervisor.infra.wakeup import Wakeup
from hypervisor.store.database import Database
from hypervisor.store.tables import Organization
from tests.support.clock import FakeClock
from tests.support.wait import PROMPT, eventually

NEVER = 3600.0


@pytest.mark.parametrize("means", ["postgresql", "redis"])
async def test_a_stream_hears_at_once_what_another_replica_committed(
    postgresql_url: str, means: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "POLL_SECONDS", NEVER)
    redis_url = request.getfixturevalue("redis_url") if means == "redis" else None
    async with AsyncExitStack() as stack:
        here, _ = await stack.enter_async_context(replica(postgresql_url, redis_url))
        there, relay = await stack.enter_async_context(replica(postgresql_url, redis_url))
        async with here.write() as session:
            session.add(Organization(id=1, name="one", name_normalized="one", created_at=FakeClock().now()))
        stream = await stack.enter_async_context(aclosing(follow(relay, there, 1, 0)))
        for message in ("first", "second"):
            heard = asyncio.ensure_future(anext(stream))
            await eventually(lambda: relay.listeners == 1)
            await say(here, message)
            (event,) = await asyncio.wait_for(heard, PROMPT)
            assert event.message == message


@asynccontextmanager
async def replica(database_url: str, redis_url: str | None) -> AsyncIterator[tuple[Database, EventRelay]]:
    database, wakeup = Database(database_url), Wakeup()
    sharing = connect(wakeup, redis_url=redis_url, database_url=database.url, install="test")
    relay = EventRelay(database, FakeClock(), wakeup)
    await sharing.start()
    bus = sharing.bus
    assert bus is not None
    await eventually(lambda: bus.connected)
    relay.start()
    try:
        yield database, relay
    finally:
        await relay.stop()
        await sharing.close()
        await database.close()


async def say(database: Database, message: str) -> None:
    async with database.write() as session:
        record(
            session,
            organization_id=1,
            at=FakeClock().now(),
            actor="test",
            type="test.event",
            message=message,
        )
