"""The relay delivers each event of an organization to each listener once, in any order of commits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing

import pytest

from hypervisor.events import relay as relay_module
from hypervisor.events.log import record
from hypervisor.events.relay import GAP_SECONDS, EventRelay, Lagging, follow
from hypervisor.store.database import Database, WriteSession
from hypervisor.store.tables import Event, Organization
from tests.support.clock import FakeClock
from tests.support.wait import PROMPT

OURS, THEIRS = 1, 2


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async for opened in _database(database_url):
        yield opened


@pytest.fixture
async def postgresql(postgresql_url: str) -> AsyncIterator[Database]:
    async for opened in _database(postgresql_url):
        yield opened


async def _database(url: str) -> AsyncIterator[Database]:
    database = Database(url)
    async with database.write() as session:
        for id_ in (OURS, THEIRS):
            name = f"org-{id_}"
            session.add(Organization(id=id_, name=name, name_normalized=name, created_at=FakeClock().now()))
    try:
        yield database
    finally:
        await database.close()


def write(session: WriteSession, message: str, organization_id: int = OURS) -> None:
    record(
        session,
        organization_id=organization_id,
        at=FakeClock().now(),
        actor="test",
        type="test.event",
        message=message,
    )


async def record_events(database: Database, *messages: str, organization_id: int = OURS) -> None:
    async with database.write() as session:
        for message in messages:
            write(session, message, organization_id)


async def test_each_organization_receives_its_own_events(database: Database) -> None:
    relay = EventRelay(database, FakeClock())
    await record_events(database, "before")
    own, foreign = await relay.subscribe(OURS), await relay.subscribe(THEIRS)
    await record_events(database, "one", "two")
    await record_events(database, "three", organization_id=THEIRS)
    await relay.dispatch_new()
    assert [(await own.next()).message for _ in range(2)] == ["one", "two"]
    assert (await foreign.next()).message == "three"
    await relay.dispatch_new()
    assert own.waiting == foreign.waiting == 0


async def test_an_event_that_is_committed_late_is_delivered_late(postgresql: Database) -> None:
    relay = EventRelay(postgresql, FakeClock())
    listener = await relay.subscribe(OURS)
    async with postgresql.write() as slow:
        write(slow, "slow")
        await slow.flush()
        await record_events(postgresql, "quick")
        await relay.dispatch_new()
        assert (await listener.next()).message == "quick"
        await relay.dispatch_new()
        assert listener.waiting == 0
    await relay.dispatch_new()
    assert (await listener.next()).message == "slow"
    await relay.dispatch_new()
    assert listener.waiting == 0


async def test_a_transaction_older_than_the_subscription_is_not_lost(postgresql: Database) -> None:
    relay = EventRelay(postgresql, FakeClock())
    async with postgresql.write() as slow:
        write(slow, "slow")
        await slow.flush()
        await record_events(postgresql, "before")
        listener = await relay.subscribe(OURS)
        await relay.dispatch_new()
        assert listener.waiting == 0
    await relay.dispatch_new()
    assert (await listener.next()).message == "slow"


async def test_ids_of_rolled_back_events_are_dropped(postgresql: Database) -> None:
    clock = FakeClock()
    relay = EventRelay(postgresql, clock)
    await relay.subscribe(OURS)
    with pytest.raises(RuntimeError):
        await _roll_back(postgresql)
    await record_events(postgresql, "next")
    await relay.dispatch_new()
    assert relay.missing_ids
    clock.advance(GAP_SECONDS + 1)
    await relay.dispatch_new()
    assert not relay.missing_ids


async def _roll_back(database: Database) -> None:
    async with database.write() as session:
        write(session, "never")
        await session.flush()
        raise RuntimeError


async def test_a_slow_listener_gets_an_error(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "QUEUE_SIZE", 3)
    relay = EventRelay(database, FakeClock())
    listener = await relay.subscribe(OURS)
    await record_events(database, *"abcdef")
    await relay.dispatch_new()
    assert [(await listener.next()).message for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(Lagging):
        await listener.next()


async def test_missed_events_are_delivered_in_order_and_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "READ_AT_ONCE", 4)
    relay = EventRelay(database, FakeClock())
    relay.start()
    await record_events(database, *(f"old-{number}" for number in range(10)))
    try:
        async with aclosing(follow(relay, database, OURS, 0)) as stream:
            messages = await _messages(stream, 10)
            await record_events(database, *(f"new-{number}" for number in range(10)))
            messages += await asyncio.wait_for(_messages(stream, 10), PROMPT)
    finally:
        await relay.stop()
    assert messages == [f"old-{number}" for number in range(10)] + [f"new-{number}" for number in range(10)]
    assert relay.listeners == 0


async def _messages(stream: AsyncGenerator[Sequence[Event], None], count: int) -> list[str]:
    messages: list[str] = []
    while len(messages) < count:
        messages += [event.message for event in await anext(stream)]
    return messages
