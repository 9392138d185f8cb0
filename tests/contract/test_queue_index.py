"""The contract of every queue index (`infra.coordination.queue_index`): in memory, in Redis, in Valkey.

The rows are the truth. After any failure of an index, positions equal those that SQL counts, or are None.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from hypervisor.control.maintenance.queue_index_sync import QueueIndexSync
from hypervisor.deployments.queue.index_updates import change_of, feed, removal
from hypervisor.deployments.queue.positions import queue_positions
from hypervisor.infra.coordination.queue_index import Change, MemoryQueueIndex, QueueIndex
from hypervisor.infra.coordination.redis_queue import RedisQueueIndex
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.queue_key import QueueKey
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Deployment, Event
from tests.support.clock import START
from tests.support.redis import KINDS, RedisServer
from tests.support.summary import count_for
from tests.support.wait import eventually
from tests.support.world import World, new_world

PATIENT = 60.0
"""Time-out in seconds: the tests check results, not speed."""
own_kinds = pytest.mark.parametrize("own_redis", KINDS, indirect=True)


@dataclass
class Case:
    """An index that receives the commits of a world, and its sync."""

    world: World
    open_index: Callable[[], QueueIndex]
    opened: list[QueueIndex] = field(default_factory=list)
    build_requests: list[int] = field(default_factory=list)

    @cached_property
    def index(self) -> QueueIndex:
        return self.open()

    def open(self) -> QueueIndex:
        """Open the index as another server."""
        self.opened.append(self.open_index())
        return self.opened[-1]

    @property
    def index_sync(self) -> QueueIndexSync:
        return QueueIndexSync(self.world.database, self.world.clock, Wakeup(), self.index)

    async def start(self, index: QueueIndex) -> None:
        index.start(lambda: self.build_requests.append(1))
        if isinstance(index, RedisQueueIndex):
            await index.first_answer(PATIENT)
            assert index.connected

    async def queued(self, cluster_id: int) -> list[Deployment]:
        async with self.world.database.read() as session:
            query = select(Deployment).where(
                Deployment.cluster_id == cluster_id, Deployment.state == "QUEUED"
            )
            return list(await session.scalars(query.order_by(Deployment.id)))

    async def by_rows(self, cluster_id: int) -> dict[int, int]:
        async with self.world.database.read() as session:
            return await queue_positions(session, await self.queued(cluster_id))

    async def by_index(self, cluster_id: int, index: QueueIndex | None = None) -> dict[int, int] | None:
        keys = [QueueKey.of(one.priority, one.created_at, one.id) for one in await self.queued(cluster_id)]
        positions = await (index or self.index).positions(cluster_id, keys)
        ids = [key.id for key in keys]
        return None if positions is None else dict(zip(ids, positions, strict=True))

    async def ghosts(self, cluster_id: int) -> set[int]:
        """Ids that are only in the index or only in the queue: positions alone do not show them."""
        entries = await self.index.entries(cluster_id)
        assert entries is not None
        return entries.keys() ^ {one.id for one in await self.queued(cluster_id)}

    async def rebuilt(self, cluster_id: int) -> bool:
        """Run the sync once. True if the index returns positions again."""
        await self.index_sync.sync(everything=False)
        return await self.by_index(cluster_id) is not None

    async def agrees(self, cluster_id: int) -> None:
        assert await self.by_index(cluster_id) == await self.by_rows(cluster_id)
        assert not await self.ghosts(cluster_id)


@pytest.fixture
async def world(sqlite_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with new_world(sqlite_url, tmp_path) as created:
        yield created


@pytest.fixture(params=["memory", *KINDS])
async def case(
    request: pytest.FixtureRequest, world: World, redis_of_kind: Callable[[str], str]
) -> AsyncIterator[Case]:
    if request.param == "memory":
        memory = MemoryQueueIndex()
        opened = _fed(world, lambda: memory)
    else:
        count_for(request, "redis")
        opened = _fed(world, partial(_server_index, redis_of_kind(request.param), world))
    async with opened as created:
        yield created


@pytest.fixture
async def redis_case(world: World, own_redis: RedisServer) -> AsyncIterator[tuple[Case, RedisServer]]:
    async with _fed(world, partial(_server_index, own_redis.url, world)) as created:
        yield created, own_redis


def _server_index(url: str, world: World) -> RedisQueueIndex:
    return RedisQueueIndex(url, world.install, answer_seconds=PATIENT)


@asynccontextmanager
async def _fed(world: World, open_index: Callable[[], QueueIndex]) -> AsyncIterator[Case]:
    case = Case(world, open_index)
    feed(case.index, world.database)
    try:
        await case.start(case.index)
        yield case
    finally:
        for index in case.opened:
            await index.close()


async def test_positions_are_those_of_the_rows_after_any_history(case: Case) -> None:
    clusters = [await case.world.cluster(), await case.world.cluster()]
    await case.index_sync.sync(everything=False)
    chance = random.Random(20261121)
    for step in range(42):
        await _random_transaction(case.world, chance, clusters)
        if step % 6 == 5:
            for cluster_id in clusters:
                await case.agrees(cluster_id)


async def test_a_built_queue_is_that_of_the_rows(case: Case) -> None:
    cluster_id = await case.world.cluster()
    ids = await case.world.submit_many(cluster_id, [{"priority": 100 * (n % 7)} for n in range(30)])
    assert await case.by_index(cluster_id) is None, "no positions before the build"
    await case.index_sync.sync(everything=False)
    await case.agrees(cluster_id)
    assert sorted((await case.by_rows(cluster_id)).values()) == list(range(1, len(ids) + 1))


async def test_another_server_reads_the_same_positions(case: Case) -> None:
    cluster_id = await case.world.cluster()
    await case.index_sync.sync(everything=False)
    await case.world.submit_many(cluster_id, [{"priority": 100 * (n % 3)} for n in range(5)])
    other = case.open()
    if other is not case.index:
        await case.start(other)
    await case.by_index(cluster_id)
    assert await case.by_index(cluster_id, other) == await case.by_rows(cluster_id)


async def test_repeated_and_late_changes_have_no_effect(case: Case) -> None:
    cluster_id = await case.world.cluster()
    first, second = await case.world.submit_many(cluster_id, [{}, {}])
    await case.index_sync.sync(everything=False)
    queued = [change_of(one) for one in await case.queued(cluster_id)]
    case.index.note([*queued, *queued])
    await case.agrees(cluster_id)
    await _end(case.world, first)
    case.index.note(queued[:1])
    await case.agrees(cluster_id)
    async with case.world.database.write() as session:
        await session.delete(await session.get_one(Deployment, second))
    case.index.note(queued)
    case.index.note([removal(cluster_id, second, 0)])
    assert await case.by_rows(cluster_id) == {}
    await case.agrees(cluster_id)


async def test_a_position_is_correct_before_the_index_has_the_deployment(case: Case) -> None:
    cluster_id = await case.world.cluster()
    ids = await case.world.submit_many(cluster_id, [{"priority": 100}, {"priority": 300}])
    await case.index_sync.sync(everything=False)
    low, high = sorted(await case.queued(cluster_id), key=lambda one: one.priority)
    new = [QueueKey.of(200, low.created_at, ids[-1] + n) for n in (1, 2)]
    risen = QueueKey.of(400, low.created_at, low.id)
    assert await case.index.positions(cluster_id, [new[1], new[0], risen]) == [4, 3, 1]
    assert await case.index.positions(cluster_id, [QueueKey.of(300, high.created_at, high.id)]) == [1]


async def test_the_sync_repairs_changes_that_the_index_missed(case: Case) -> None:
    cluster_id = await case.world.cluster()
    ids = await case.world.submit_many(cluster_id, [{"priority": 100 * n} for n in range(4)])
    await case.index_sync.sync(everything=False)
    async with case.world.database.write() as session:
        await session.execute(delete(Event).where(Event.deployment_id == ids[0]))
        await session.execute(delete(Deployment).where(Deployment.id == ids[0]))
        await session.execute(update(Deployment).where(Deployment.id == ids[1]).values(priority=900))
        await session.execute(
            update(Deployment).where(Deployment.id == ids[2]).values(state="CANCELLED", generation=5)
        )
    assert await case.ghosts(cluster_id)
    assert await case.index_sync.compare(cluster_id) == 3
    await case.agrees(cluster_id)
    assert await case.index_sync.compare(cluster_id) == 0


async def test_a_commit_during_a_build_is_not_lost(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_id = await case.world.cluster()
    await case.world.submit(cluster_id)
    rebuild = case.index.rebuild

    async def overtaken(cluster_id: int, queued: Sequence[Change]) -> None:
        await case.world.submit(cluster_id)
        await rebuild(cluster_id, queued)

    monkeypatch.setattr(case.index, "rebuild", overtaken)
    await case.index_sync.sync(everything=False)
    await case.agrees(cluster_id)


async def test_a_missing_cluster_is_requested(case: Case) -> None:
    cluster_id = await case.world.cluster()
    assert not case.index.ready(cluster_id)
    await eventually(lambda: case.build_requests, within=PATIENT)
    await case.index_sync.sync(everything=False)
    await eventually(lambda: case.index.ready(cluster_id), within=PATIENT)


async def test_a_rolled_back_transaction_sends_no_change(case: Case) -> None:
    cluster_id = await case.world.cluster()
    (deployment_id,) = await case.world.submit_many(cluster_id, [{}])
    await case.index_sync.sync(everything=False)
    with pytest.raises(LookupError):
        await _fail_after_flush(case.world, deployment_id)
    await case.agrees(cluster_id)


@own_kinds
async def test_a_flushed_index_is_not_trusted(redis_case: tuple[Case, RedisServer]) -> None:
    case, server = redis_case
    cluster_id = await _built(case)
    server.call("FLUSHALL")
    await case.world.submit(cluster_id)
    assert await case.by_index(cluster_id) is None
    assert case.build_requests
    await case.index_sync.sync(everything=False)
    await case.agrees(cluster_id)


@own_kinds
async def test_half_an_index_is_not_trusted(redis_case: tuple[Case, RedisServer]) -> None:
    """A Redis that is short of memory may drop one key and keep another."""
    case, server = redis_case
    cluster_id = await _built(case)
    (order,) = server.call("KEYS", "*:order")
    server.call("DEL", order)
    assert await case.by_index(cluster_id) is None
    await case.index_sync.sync(everything=False)
    await case.agrees(cluster_id)


@own_kinds
async def test_an_outage_of_redis_costs_only_its_results(
    redis_case: tuple[Case, RedisServer],
) -> None:
    case, server = redis_case
    cluster_id = await _built(case)
    server.stop()
    started, _ = await case.world.submit_many(cluster_id, [{"priority": 900}, {"priority": 100}])
    await _end(case.world, started)
    assert await case.by_index(cluster_id) is None
    server.start()
    await eventually(lambda: case.rebuilt(cluster_id), within=PATIENT)
    await case.agrees(cluster_id)


@own_kinds
async def test_an_unsent_change_makes_the_index_invalid(
    redis_case: tuple[Case, RedisServer],
) -> None:
    case, server = redis_case
    cluster_id = await _built(case)
    server.call("ACL", "SETUSER", "default", "-@all", "+acl")
    await case.world.submit(cluster_id)
    assert await case.by_index(cluster_id) is None
    server.call("ACL", "SETUSER", "default", "+@all")
    await eventually(lambda: case.rebuilt(cluster_id), within=PATIENT)
    await case.agrees(cluster_id)


@own_kinds
async def test_an_old_copy_of_the_index_is_not_trusted(redis_case: tuple[Case, RedisServer]) -> None:
    case, server = redis_case
    cluster_id = await _built(case)
    server.call("SAVE")
    await case.world.submit(cluster_id, priority=900)
    await case.agrees(cluster_id)
    server.stop()
    server.start()
    assert server.call("KEYS", "*:order"), "the copy is there"
    await eventually(lambda: case.build_requests, within=PATIENT)
    assert await case.by_index(cluster_id) is None
    await eventually(lambda: case.rebuilt(cluster_id), within=PATIENT)
    await case.agrees(cluster_id)


async def _built(case: Case) -> int:
    cluster_id = await case.world.cluster()
    await case.world.submit_many(cluster_id, [{"priority": 100 * n} for n in range(4)])
    await case.index_sync.sync(everything=False)
    await case.agrees(cluster_id)
    case.build_requests.clear()
    return cluster_id


async def _random_transaction(world: World, chance: random.Random, clusters: Sequence[int]) -> None:
    """One transaction of one to five changes; every tenth is rolled back."""
    with suppress(LookupError):
        async with world.database.write() as session:
            for _ in range(chance.randint(1, 5)):
                await _change(session, world, chance, clusters)
            if chance.random() < 0.1:
                await session.flush()
                raise LookupError


async def _change(
    session: WriteSession, world: World, chance: random.Random, clusters: Sequence[int]
) -> None:
    rows = list(await session.scalars(select(Deployment).order_by(Deployment.id)))
    one = chance.choice(rows) if rows else None
    match chance.choice(["submit", "submit", "submit", "move", "leave", "return", "delete"]):
        case "move" if one:
            one.priority = chance.randint(0, 1000)
        case "leave" if one:
            one.state = "CANCELLED"
        case "return" if one:
            one.state = "QUEUED"
        case "delete" if one:
            await session.delete(one)
            return
        case _:
            await _submit(session, world, chance, clusters)
            return
    one.generation += 1


async def _submit(
    session: WriteSession, world: World, chance: random.Random, clusters: Sequence[int]
) -> None:
    cluster = await session.get_one(Cluster, chance.choice(clusters))
    # Times tie often: the order must hold to the microsecond and beyond, by id.
    at = START + timedelta(microseconds=chance.randint(0, 3))
    session.add(
        Deployment(
            organization_id=cluster.organization_id,
            cluster_id=cluster.id,
            name="work",
            kind="job",
            cpu_milli=100,
            ram_mib=64,
            priority=chance.choice([0, 499, 500, 500, 501, 1000]),
            restart_policy="never",
            state=chance.choice(["QUEUED", "QUEUED", "BLOCKED"]),
            created_at=at,
        )
    )
    await session.flush()


async def _end(world: World, deployment_id: int) -> None:
    async with world.database.write() as session:
        one = await session.get_one(Deployment, deployment_id)
        one.state = "CANCELLED"
        one.generation += 1


async def _fail_after_flush(world: World, deployment_id: int) -> None:
    async with world.database.write() as session:
        one = await session.get_one(Deployment, deployment_id)
        one.priority = 1
        await session.flush()
        raise LookupError
