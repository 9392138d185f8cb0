"""Several members on one PostgreSQL: who holds what, and what an old holder can still do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hypervisor.control.leases.held import JANITOR, HeldLeases, cluster_lease, engine_lease
from hypervisor.control.leases.manager import LeaseManager
from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.infra.wakeup import Wakeup
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.scheduling.plan import plan
from hypervisor.store.leases import StaleEpoch, acquire_all, holders, lease_time, release_all
from tests.support.clock import FakeClock
from tests.support.wait import eventually
from tests.support.world import World, new_world, simulated

PROCESS = EngineRef("process")
SOCKET = EngineRef("docker")


class Engines:
    """A driver that drives nothing: it knows who each engine is, as far as it reaches it."""

    def __init__(self, site: str, docker: str | None = None) -> None:
        self._site = site
        self.docker = docker
        self.driven: set[EngineRef] = set()

    def known_identity(self, engine: EngineRef) -> str | None:
        return self._site if engine.runtime != "docker" else None

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        said = {engine: self.known_identity(engine) or self.docker for engine in engines}
        return {engine: who for engine, who in said.items() if who is not None}

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        self.driven |= set(engines)

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        self.driven -= set(engines)


class Member:
    """A holder whose turns are taken by the test; its monotonic clock stands still."""

    def __init__(
        self,
        world: World,
        site: str = "here",
        *,
        docker: str | None = None,
        engines: Collection[EngineRef] = (),
    ) -> None:
        self.world = world
        self.clock = FakeClock()
        self.holdings = HeldLeases(self.clock, Wakeup())
        self.engines = Engines(site, docker)
        self.holder = LeaseManager(
            world.database, self.clock, Wakeup(), self.holdings, self.engines, default_engines=engines
        )

    async def turn(self) -> None:
        await self.holder.step()

    def held(self, prefix: str = "cluster:") -> set[str]:
        return {name for name in self.holdings.epochs() if name.startswith(prefix)}

    async def dies(self) -> None:
        """No word from it for so long that the database holds it for dead."""
        async with self.world.database.write() as session:
            for table, column in (("leases", "holder"), ("servers", "name")):
                await session.execute(
                    text(
                        f"UPDATE {table} SET expires_at = clock_timestamp() - interval '1 s' "
                        f"WHERE {column} = '{self.holder.name}'"
                    )
                )


@pytest.fixture
async def world(postgresql_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world on PostgreSQL: on SQLite there is one server."""
    async with new_world(postgresql_url, tmp_path) as made:
        yield made


async def settled(*members: Member) -> None:
    for _ in range(4):
        for member in members:
            await member.turn()


async def test_a_second_member_gets_half_and_the_first_goes_on_with_the_rest(world: World) -> None:
    clusters = {cluster_lease(await world.cluster()) for _ in range(4)}
    one, two = Member(world), Member(world)
    await one.turn()
    assert one.held() == clusters
    before = one.holdings.epochs()
    await settled(two, one)
    assert one.held() | two.held() == clusters
    assert (len(one.held()), len(two.held())) == (2, 2)
    assert {name: one.holdings.epochs()[name] for name in one.held()} == {n: before[n] for n in one.held()}
    assert all(two.holdings.epochs()[name] == before[name] + 1 for name in two.held())


async def test_a_member_that_stops_hands_everything_over_at_once(world: World) -> None:
    clusters = {cluster_lease(await world.cluster()) for _ in range(3)}
    one, two = Member(world), Member(world)
    await settled(one, two)
    await one.holder.hand_over()
    assert not one.holdings.names()
    await two.turn()
    assert two.held() == clusters
    assert two.holdings.fence(JANITOR) is not None


async def test_a_member_that_dies_is_replaced_and_its_old_plan_writes_nothing(world: World) -> None:
    cluster = await world.cluster()
    job = await world.submit(cluster, **simulated())
    one, two = Member(world), Member(world)
    await one.turn()
    old = one.holdings.fence(cluster_lease(cluster))
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert old is not None
    assert view is not None
    made = plan(view.snapshot, view.policy)
    assert made.placements
    await one.dies()
    await two.turn()
    assert two.held() == {cluster_lease(cluster)}
    # Its own clock has not moved: it still trusts what it has lost, as after a pause.
    assert one.holdings.fence(cluster_lease(cluster)) == old
    with pytest.raises(StaleEpoch):
        async with world.database.write() as session:
            await commit_plan(session, view, made, fence=old, install=world.install, now=world.clock.now())
    assert await world.state(job) == State.QUEUED
    one.clock.advance(11)
    await one.turn()
    assert not one.held()


async def test_trust_ends_by_the_own_clock_whatever_the_database_says(world: World) -> None:
    cluster = cluster_lease(await world.cluster())
    one = Member(world)
    await one.turn()
    one.clock.advance(14.9)
    assert one.holdings.fence(cluster) is not None
    one.clock.advance(0.2)
    assert one.holdings.fence(cluster) is None
    await one.turn()
    assert one.holdings.fence(cluster) is not None


async def test_nobody_takes_another_engine_for_the_one_where_work_lives(world: World) -> None:
    cluster = await world.cluster(runtime="process")
    here, elsewhere = Member(world, "here", engines=[PROCESS]), Member(world, "elsewhere", engines=[PROCESS])
    await here.turn()
    assert here.engines.driven == {PROCESS}
    job = await world.submit(cluster)
    await _place(world, here, cluster)
    assert await world.state(job) == State.STARTING
    await here.dies()
    await settled(elsewhere)
    assert elsewhere.held("engine:") == set()
    assert elsewhere.held() == {cluster_lease(cluster)}
    assert not await _schedulable(world, cluster)
    again = Member(world, "here", engines=[PROCESS])
    await settled(elsewhere, again)
    assert again.engines.driven == {PROCESS}
    assert await _schedulable(world, cluster)


async def test_an_engine_without_work_may_be_another_one_from_now_on(world: World) -> None:
    await world.cluster(runtime="process")
    here, elsewhere = Member(world, "here", engines=[PROCESS]), Member(world, "elsewhere", engines=[PROCESS])
    await here.turn()
    await here.dies()
    await elsewhere.turn()
    assert elsewhere.engines.driven == {PROCESS}


async def test_an_engine_that_does_not_answer_goes_to_a_member_that_reaches_it(world: World) -> None:
    deaf, near = Member(world, engines=[SOCKET]), Member(world, docker="ID:1", engines=[SOCKET])
    await deaf.turn()
    assert deaf.engines.driven == set()
    await settled(near, deaf)
    assert near.engines.driven == {SOCKET}
    assert deaf.engines.driven == set()


async def test_two_servers_share_the_work_and_one_goes_on_alone(world: World) -> None:
    clusters = [await world.cluster() for _ in range(4)]
    async with world.loops() as _:
        async with world.loops() as _:
            first = [await world.submit(cluster, **simulated()) for cluster in clusters]
            for job in first:
                await world.reaches(job, State.RUNNING)
        second = [await world.submit(cluster, **simulated(0.1)) for cluster in clusters]
        for job in second:
            await world.reaches(job, State.SUCCEEDED)
    assert [len(await world.attempts(job)) for job in [*first, *second]] == [1] * 8
    await world.check_invariants()


async def test_what_runs_on_an_engine_goes_on_under_another_driver(world: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    on_processes, simulation = await world.cluster(runtime="process"), await world.cluster()
    async with world.loops():
        waits = f"until [ -e {gate} ]; do sleep 0.05; done"
        job = await world.submit(on_processes, command=["sh", "-c", waits])
        other = await world.submit(simulation, **simulated())
        for one in (job, other):
            await world.reaches(one, State.RUNNING)
        first = await _holder(world, "engine:process")
        async with world.loops():
            await eventually(lambda: _moved(world, "engine:process", first), what="the engine moves")
            gate.touch()
            await world.reaches(job, State.SUCCEEDED)
            await world.stop(other)
            await world.reaches(other, State.STOPPED)
    assert [len(await world.attempts(one)) for one in (job, other)] == [1, 1]
    await world.check_invariants()


async def test_what_an_old_driver_has_seen_is_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[object] = []
    close = SimulatedRuntime.close

    async def closing(runtime: SimulatedRuntime) -> None:
        closed.append(runtime)
        await close(runtime)

    monkeypatch.setattr(SimulatedRuntime, "close", closing)
    cluster = await world.cluster()
    engine = engine_lease(EngineRef("simulated"))
    async with world.loops() as runtimes:
        job = await world.submit(cluster, **simulated())
        await world.reaches(job, State.RUNNING)
        await _another_takes(world, engine)
        # It ends; the old driver sees that, and finds a newer epoch when it wants to write it down.
        (attempt,) = await world.attempts(job)
        await runtimes.get(EngineRef("simulated")).stop(attempt.instance, 0)
        await eventually(lambda: closed, what="the old driver lets go")
        assert await world.state(job) == State.RUNNING
        async with world.database.write() as session:
            await release_all(session, [engine], "another", world.clock.now() - timedelta(minutes=1))
        await world.reaches(job, State.FAILED)
    assert len(await world.attempts(job)) == 1


async def _holder(world: World, lease: str) -> str | None:
    async with world.database.read() as session:
        return (await holders(session, await lease_time(session, world.clock.now()))).get(lease)


async def _moved(world: World, lease: str, before: str | None) -> bool:
    return await _holder(world, lease) not in (None, before)


async def _another_takes(world: World, lease: str) -> None:
    async with world.database.write() as session:
        later = world.clock.now()
        assert await acquire_all(session, [lease], "another", later, timedelta(hours=1), force=True)


async def _place(world: World, member: Member, cluster: int) -> None:
    """Schedule the cluster once, under the member's lease."""
    fence = member.holdings.fence(cluster_lease(cluster))
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert fence is not None
    assert view is not None
    made = plan(view.snapshot, view.policy)
    async with world.database.write() as session:
        await commit_plan(session, view, made, fence=fence, install=world.install, now=world.clock.now())


async def _schedulable(world: World, cluster: int) -> bool:
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    return bool(view.snapshot.nodes.schedulable.any())
