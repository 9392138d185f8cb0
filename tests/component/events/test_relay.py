"""The relay gives every listener each event of its organization once, whatever the order of commits."""

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
    async for made in _database(database_url):
        yield made


@pytest.fixture
async def postgresql(postgresql_url: str) -> AsyncIterator[Database]:
    async for made in _database(postgresql_url):
        yield made


async def _database(url: str) -> AsyncIterator[Database]:
    made = Database(url)
    async with made.write() as session:
        for id_ in (OURS, THEIRS):
            name = f"org-{id_}"
            session.add(Organization(id=id_, name=name, name_normalized=name, created_at=FakeClock().now()))
    try:
        yield made
    finally:
        await made.close()


def write(session: WriteSession, message: str, organization_id: int = OURS) -> None:
    record(
        session,
        organization_id=organization_id,
        at=FakeClock().now(),
        actor="test",
        type="test.event",
        message=message,
    )


async def say(database: Database, *messages: str, organization_id: int = OURS) -> None:
    async with database.write() as session:
        for message in messages:
            write(session, message, organization_id)


async def test_each_organization_hears_its_own(database: Database) -> None:
    relay = EventRelay(database, FakeClock())
    await say(database, "before")
    ours, theirs = await relay.subscribe(OURS), await relay.subscribe(THEIRS)
    await say(database, "one", "two")
    await say(database, "three", organization_id=THEIRS)
    await relay.dispatch_new()
    assert [(await ours.next()).message for _ in range(2)] == ["one", "two"]
    assert (await theirs.next()).message == "three"
    await relay.dispatch_new()
    assert ours.waiting == theirs.waiting == 0


async def test_what_is_committed_late_is_passed_on_late(postgresql: Database) -> None:
    relay = EventRelay(postgresql, FakeClock())
    listener = await relay.subscribe(OURS)
    async with postgresql.write() as slow:
        write(slow, "slow")
        await slow.flush()
        await say(postgresql, "quick")
        await relay.dispatch_new()
        assert (await listener.next()).message == "quick"
        await relay.dispatch_new()
        assert listener.waiting == 0
    await relay.dispatch_new()
    assert (await listener.next()).message == "slow"
    await relay.dispatch_new()
    assert listener.waiting == 0


async def test_what_was_begun_before_the_listener_came_is_not_lost(postgresql: Database) -> None:
    relay = EventRelay(postgresql, FakeClock())
    async with postgresql.write() as slow:
        write(slow, "slow")
        await slow.flush()
        await say(postgresql, "before")
        listener = await relay.subscribe(OURS)
        await relay.dispatch_new()
        assert listener.waiting == 0
    await relay.dispatch_new()
    assert (await listener.next()).message == "slow"


async def test_ids_that_never_come_are_given_up(postgresql: Database) -> None:
    clock = FakeClock()
    relay = EventRelay(postgresql, clock)
    await relay.subscribe(OURS)
    with pytest.raises(RuntimeError):
        await _roll_back(postgresql)
    await say(postgresql, "next")
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


async def test_a_listener_that_does_not_keep_up_is_told(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "QUEUE_SIZE", 3)
    relay = EventRelay(database, FakeClock())
    listener = await relay.subscribe(OURS)
    await say(database, *"abcdef")
    await relay.dispatch_new()
    assert [(await listener.next()).message for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(Lagging):
        await listener.next()


async def test_a_long_absence_is_caught_up_in_order_and_without_doubles(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "READ_AT_ONCE", 4)
    relay = EventRelay(database, FakeClock())
    relay.start()
    await say(database, *(f"old-{number}" for number in range(10)))
    try:
        async with aclosing(follow(relay, database, OURS, 0)) as stream:
            seen = await _messages(stream, 10)
            await say(database, *(f"new-{number}" for number in range(10)))
            seen += await asyncio.wait_for(_messages(stream, 10), PROMPT)
    finally:
        await relay.stop()
    assert seen == [f"old-{number}" for number in range(10)] + [f"new-{number}" for number in range(10)]
    assert relay.listeners == 0


async def _messages(stream: AsyncGenerator[Sequence[Event], None], count: int) -> list[str]:
    seen: list[str] = []
    while len(seen) < count:
        seen += [event.message for event in await anext(stream)]
    return seen
