"""Listeners receive the events of other servers at once, by a hint: the poll interval is too long here."""

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


@pytest.mark.parametrize("backend", ["postgresql", "redis"])
async def test_a_stream_receives_the_commits_of_another_server_at_once(
    postgresql_url: str, backend: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "POLL_SECONDS", NEVER)
    redis_url = request.getfixturevalue("redis_url") if backend == "redis" else None
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(server(postgresql_url, redis_url))
        second, relay = await stack.enter_async_context(server(postgresql_url, redis_url))
        async with first.write() as session:
            session.add(Organization(id=1, name="one", name_normalized="one", created_at=FakeClock().now()))
        stream = await stack.enter_async_context(aclosing(follow(relay, second, 1, 0)))
        for message in ("first", "second"):
            received = asyncio.ensure_future(anext(stream))
            await eventually(lambda: relay.listeners == 1)
            await record_event(first, message)
            (event,) = await asyncio.wait_for(received, PROMPT)
            assert event.message == message


@asynccontextmanager
async def server(database_url: str, redis_url: str | None) -> AsyncIterator[tuple[Database, EventRelay]]:
    database, wakeup = Database(database_url), Wakeup()
    coordination = connect(wakeup, redis_url=redis_url, postgres=database.address.postgres, install="test")
    relay = EventRelay(database, FakeClock(), wakeup)
    await coordination.start()
    bus = coordination.bus
    assert bus is not None
    await eventually(lambda: bus.connected)
    relay.start()
    try:
        yield database, relay
    finally:
        await relay.stop()
        await coordination.close()
        await database.close()


async def record_event(database: Database, message: str) -> None:
    async with database.write() as session:
        record(
            session,
            organization_id=1,
            at=FakeClock().now(),
            actor="test",
            type="test.event",
            message=message,
        )
