"""Hints between servers over each backend: hints arrive, and a lost connection is noticed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg  # type: ignore[import-untyped]
import pytest
from redis.asyncio import Redis

from hypervisor.infra.coordination.bus import Bus, OpenLink
from hypervisor.infra.coordination.postgres_link import postgres_link
from hypervisor.infra.coordination.redis_link import redis_link
from hypervisor.infra.wakeup import Wakeup
from hypervisor.store.driver.address import parse_database_url
from tests.support.redis import KINDS
from tests.support.servers import free_port
from tests.support.summary import count_for
from tests.support.wait import eventually

PATIENT = 60.0


@dataclass
class Servers:
    """Servers of one installation, each with its `Wakeup`; in memory they are one process."""

    open_link: OpenLink | None
    cut: Callable[[], Awaitable[None]]
    buses: list[Bus] = field(default_factory=list)
    shared: Wakeup = field(default_factory=Wakeup)

    async def open(self) -> Wakeup:
        if self.open_link is None:
            return self.shared
        wakeup = Wakeup()
        bus = Bus(wakeup, self.open_link)
        self.buses.append(bus)
        bus.start()
        await eventually(lambda: bus.connected, within=PATIENT)
        return wakeup


@pytest.fixture(params=["memory", "postgresql", *KINDS])
async def servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    async with _servers(request) as opened:
        yield opened


@pytest.fixture(params=["postgresql", *KINDS])
async def connected(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    async with _servers(request) as opened:
        yield opened


async def test_a_hint_wakes_the_listeners_of_its_topic_on_every_server(servers: Servers) -> None:
    first, second = await servers.open(), await servers.open()
    remote, other_topic = second.listen("scheduler"), second.listen("maintenance")
    local = first.listen("scheduler")
    first.notify("scheduler")
    assert await remote.wait(PATIENT)
    assert await local.wait(0)
    assert not await other_topic.wait(0)


async def test_many_hints_go_in_both_directions(servers: Servers) -> None:
    first, second = await servers.open(), await servers.open()
    first_listener, second_listener = first.listen("b"), second.listen("a")
    for _ in range(1000):
        first.notify("a")
        second.notify("b")
    assert await second_listener.wait(PATIENT)
    assert await first_listener.wait(PATIENT)


async def test_after_a_lost_connection_every_loop_wakes(connected: Servers) -> None:
    first, second = await connected.open(), await connected.open()
    listeners = [first.listen("never sent"), second.listen("never sent")]
    await connected.cut()
    for listener in listeners:
        assert await listener.wait(PATIENT), "hints may have been lost with the connection"
    await eventually(lambda: all(bus.connected for bus in connected.buses), within=PATIENT)
    listener = second.listen("scheduler")
    first.notify("scheduler")
    assert await listener.wait(PATIENT)


async def test_without_a_backend_hints_stay_in_the_process() -> None:
    wakeup = Wakeup()
    bus = Bus(wakeup, redis_link(f"redis://127.0.0.1:{free_port()}/0", "hints"))
    bus.start()
    listener = wakeup.listen("scheduler")
    wakeup.notify("scheduler")
    assert await listener.wait(PATIENT)
    assert not bus.connected
    await bus.stop()


@asynccontextmanager
async def _servers(request: pytest.FixtureRequest) -> AsyncIterator[Servers]:
    servers = _with_backend(request, request.param)
    try:
        yield servers
    finally:
        for bus in servers.buses:
            await bus.stop()


def _with_backend(request: pytest.FixtureRequest, kind: str) -> Servers:
    if kind == "memory":
        return Servers(None, _nothing)
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        target = parse_database_url(url).postgres
        assert target is not None
        return Servers(postgres_link(target), lambda: _end_sessions(url))
    count_for(request, "redis")
    url = request.getfixturevalue("redis_of_kind")(kind)
    return Servers(redis_link(url, f"hypervisor:{request.node.name}:hints"), lambda: _kill_clients(url))


async def _nothing() -> None:
    """One process has no connection to cut."""


async def _end_sessions(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'hypervisor hints' AND datname = current_database()"
        )
        assert len(ended) == 2
    finally:
        await connection.close()


async def _kill_clients(url: str) -> None:
    async with Redis.from_url(url) as client:
        assert await client.client_kill_filter(_type="pubsub") >= 2
