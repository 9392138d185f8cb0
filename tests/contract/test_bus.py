"""What carries hints between replicas, on each server that may: they arrive, and no cut goes unnoticed."""

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
from hypervisor.store.database import normalise_url
from tests.support.redis import KINDS
from tests.support.servers import free_port
from tests.support.summary import count_for
from tests.support.wait import eventually

PATIENT = 60.0


@dataclass
class Replicas:
    """Processes of one installation, each with its own ear; in memory they are one process."""

    connect: OpenLink | None
    cut: Callable[[], Awaitable[None]]
    buses: list[Bus] = field(default_factory=list)
    alone: Wakeup = field(default_factory=Wakeup)

    async def open(self) -> Wakeup:
        if self.connect is None:
            return self.alone
        wakeup = Wakeup()
        bus = Bus(wakeup, self.connect)
        self.buses.append(bus)
        bus.start()
        await eventually(lambda: bus.connected, within=PATIENT)
        return wakeup


@pytest.fixture(params=["memory", "postgresql", *KINDS])
async def replicas(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    async with _replicas(request) as made:
        yield made


@pytest.fixture(params=["postgresql", *KINDS])
async def connected(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    async with _replicas(request) as made:
        yield made


async def test_a_hint_wakes_who_listens_to_it_in_every_replica(replicas: Replicas) -> None:
    here, there = await replicas.open(), await replicas.open()
    awaited, other = there.listen("scheduler"), there.listen("janitor")
    mine = here.listen("scheduler")
    here.notify("scheduler")
    assert await awaited.wait(PATIENT)
    assert await mine.wait(0)
    assert not await other.wait(0)


async def test_hints_go_both_ways_and_any_number_of_them(replicas: Replicas) -> None:
    here, there = await replicas.open(), await replicas.open()
    at_home, away = here.listen("b"), there.listen("a")
    for _ in range(1000):
        here.notify("a")
        there.notify("b")
    assert await away.wait(PATIENT)
    assert await at_home.wait(PATIENT)


async def test_after_a_cut_every_loop_looks_again(connected: Replicas) -> None:
    here, there = await connected.open(), await connected.open()
    ears = [here.listen("never given"), there.listen("never given")]
    await connected.cut()
    for ear in ears:
        assert await ear.wait(PATIENT), "whoever was cut off may have missed anything"
    await eventually(lambda: all(bus.connected for bus in connected.buses), within=PATIENT)
    ear = there.listen("scheduler")
    here.notify("scheduler")
    assert await ear.wait(PATIENT)


async def test_without_a_server_hints_stay_at_home() -> None:
    wakeup = Wakeup()
    bus = Bus(wakeup, redis_link(f"redis://127.0.0.1:{free_port()}/0", "hints"))
    bus.start()
    ear = wakeup.listen("scheduler")
    wakeup.notify("scheduler")
    assert await ear.wait(PATIENT)
    assert not bus.connected
    await bus.stop()


@asynccontextmanager
async def _replicas(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    made = _of_kind(request, request.param)
    try:
        yield made
    finally:
        for bus in made.buses:
            await bus.stop()


def _of_kind(request: pytest.FixtureRequest, kind: str) -> Replicas:
    if kind == "memory":
        return Replicas(None, _nothing)
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        return Replicas(postgres_link(normalise_url(url)), lambda: _end_sessions(url))
    count_for(request, "redis")
    url = request.getfixturevalue("redis_of_kind")(kind)
    return Replicas(redis_link(url, f"hypervisor:{request.node.name}:hints"), lambda: _kill_clients(url))


async def _nothing() -> None:
    """In one process there is no line to cut."""


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
