"""Several servers on one PostgreSQL: distribution of the leases, and limits of a former holder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from hypervisor.control.leases.held import MAINTENANCE, HeldLeases, cluster_lease, engine_lease
from hypervisor.control.leases.manager import LeaseManager
from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.infra.randomness import system_random
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


class FakeDriver:
    """A driver without engines: it reports the identity of those that it reaches."""

    def __init__(self, site: str, docker: str | None = None) -> None:
        self._site = site
        self.docker = docker
        self.driven: set[EngineRef] = set()

    def known_identity(self, engine: EngineRef) -> str | None:
        return self._site if engine.runtime != "docker" else None

    async def identify(self, engines: Collection[EngineRef]) -> Mapping[EngineRef, str]:
        identities = {engine: self.known_identity(engine) or self.docker for engine in engines}
        return {engine: identity for engine, identity in identities.items() if identity is not None}

    def start_driving(self, engines: Collection[EngineRef]) -> None:
        self.driven |= set(engines)

    async def stop_driving(self, engines: Collection[EngineRef]) -> None:
        self.driven -= set(engines)


class Server:
    """A lease manager that the test steps, with a monotonic clock that the test sets."""

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
        self.leases = HeldLeases(self.clock, Wakeup())
        self.engines = FakeDriver(site, docker)
        self.manager = LeaseManager(
            world.database,
            self.clock,
            Wakeup(),
            self.leases,
            self.engines,
            random=system_random(),
            default_engines=engines,
        )

    async def turn(self) -> None:
        await self.manager.step()

    def held(self, prefix: str = "cluster:") -> set[str]:
        return {name for name in self.leases.epochs() if name.startswith(prefix)}

    async def expire(self) -> None:
        """Let its heartbeat and its leases expire."""
        async with self.world.database.write() as session:
            for table, column in (("leases", "holder"), ("servers", "name")):
                await session.execute(
                    text(
                        f"UPDATE {table} SET expires_at = clock_timestamp() - interval '1 s' "
                        f"WHERE {column} = '{self.manager.name}'"
                    )
                )


@pytest.fixture
async def world(postgresql_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """A world on PostgreSQL; SQLite allows one server only."""
    async with new_world(postgresql_url, tmp_path) as result:
        yield result


async def step_all(*servers: Server) -> None:
    for _ in range(4):
        for server in servers:
            await server.turn()


async def test_a_second_server_gets_half_of_the_leases_and_the_first_keeps_the_rest(world: World) -> None:
    clusters = {cluster_lease(await world.cluster()) for _ in range(4)}
    first, second = Server(world), Server(world)
    await first.turn()
    assert first.held() == clusters
    epochs = first.leases.epochs()
    await step_all(second, first)
    assert first.held() | second.held() == clusters
    assert (len(first.held()), len(second.held())) == (2, 2)
    assert {name: first.leases.epochs()[name] for name in first.held()} == {
        n: epochs[n] for n in first.held()
    }
    assert all(second.leases.epochs()[name] == epochs[name] + 1 for name in second.held())


async def test_a_server_that_stops_releases_all_leases_at_once(world: World) -> None:
    clusters = {cluster_lease(await world.cluster()) for _ in range(3)}
    first, second = Server(world), Server(world)
    await step_all(first, second)
    await first.manager.release_all()
    assert not first.leases.names()
    await second.turn()
    assert second.held() == clusters
    assert second.leases.fence(MAINTENANCE) is not None


async def test_a_server_that_dies_is_replaced_and_its_old_plan_is_not_committed(world: World) -> None:
    cluster = await world.cluster()
    job = await world.submit(cluster, **simulated())
    first, second = Server(world), Server(world)
    await first.turn()
    fence = first.leases.fence(cluster_lease(cluster))
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert fence is not None
    assert view is not None
    result = plan(view.snapshot, view.policy)
    assert result.placements
    await first.expire()
    await second.turn()
    assert second.held() == {cluster_lease(cluster)}
    # Its clock has not moved: it still trusts the lost lease, as after a pause.
    assert first.leases.fence(cluster_lease(cluster)) == fence
    with pytest.raises(StaleEpoch):
        async with world.database.write() as session:
            await commit_plan(
                session, view, result, fence=fence, install=world.install, now=world.clock.now()
            )
    assert await world.state(job) == State.QUEUED
    first.clock.advance(11)
    await first.turn()
    assert not first.held()


async def test_trust_ends_by_the_monotonic_clock_independent_of_the_database(world: World) -> None:
    cluster = cluster_lease(await world.cluster())
    first = Server(world)
    await first.turn()
    first.clock.advance(14.9)
    assert first.leases.fence(cluster) is not None
    first.clock.advance(0.2)
    assert first.leases.fence(cluster) is None
    await first.turn()
    assert first.leases.fence(cluster) is not None


async def test_an_engine_of_another_identity_is_not_driven_while_attempts_are_live(world: World) -> None:
    cluster = await world.cluster(runtime="process")
    here, elsewhere = Server(world, "here", engines=[PROCESS]), Server(world, "elsewhere", engines=[PROCESS])
    await here.turn()
    assert here.engines.driven == {PROCESS}
    job = await world.submit(cluster)
    await _schedule(world, here, cluster)
    assert await world.state(job) == State.STARTING
    await here.expire()
    await step_all(elsewhere)
    assert elsewhere.held("engine:") == set()
    assert elsewhere.held() == {cluster_lease(cluster)}
    assert not await _schedulable(world, cluster)
    again = Server(world, "here", engines=[PROCESS])
    await step_all(elsewhere, again)
    assert again.engines.driven == {PROCESS}
    assert await _schedulable(world, cluster)


async def test_an_engine_without_live_attempts_may_change_its_identity(world: World) -> None:
    await world.cluster(runtime="process")
    here, elsewhere = Server(world, "here", engines=[PROCESS]), Server(world, "elsewhere", engines=[PROCESS])
    await here.turn()
    await here.expire()
    await elsewhere.turn()
    assert elsewhere.engines.driven == {PROCESS}


async def test_an_engine_goes_to_a_server_that_can_reach_it(world: World) -> None:
    isolated, near = Server(world, engines=[SOCKET]), Server(world, docker="ID:1", engines=[SOCKET])
    await isolated.turn()
    assert isolated.engines.driven == set()
    await step_all(near, isolated)
    assert near.engines.driven == {SOCKET}
    assert isolated.engines.driven == set()


async def test_two_servers_share_the_clusters_and_one_continues_alone(world: World) -> None:
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


async def test_attempts_keep_running_when_the_driver_of_their_engine_changes(
    world: World, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    on_processes, simulation = await world.cluster(runtime="process"), await world.cluster()
    async with world.loops():
        waits = f"until [ -e {gate} ]; do sleep 0.05; done"
        job = await world.submit(on_processes, command=["sh", "-c", waits])
        other = await world.submit(simulation, **simulated())
        for deployment_id in (job, other):
            await world.reaches(deployment_id, State.RUNNING)
        first = await _holder(world, "engine:process")
        async with world.loops():
            await eventually(lambda: _moved(world, "engine:process", first), what="the engine moves")
            gate.touch()
            await world.reaches(job, State.SUCCEEDED)
            await world.stop(other)
            await world.reaches(other, State.STOPPED)
    assert [len(await world.attempts(deployment_id)) for deployment_id in (job, other)] == [1, 1]
    await world.check_invariants()


async def test_observations_of_a_former_driver_are_not_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed_runtimes: list[object] = []
    close = SimulatedRuntime.close

    async def closing(runtime: SimulatedRuntime) -> None:
        closed_runtimes.append(runtime)
        await close(runtime)

    monkeypatch.setattr(SimulatedRuntime, "close", closing)
    cluster = await world.cluster()
    engine = engine_lease(EngineRef("simulated"))
    async with world.loops() as runtimes:
        job = await world.submit(cluster, **simulated())
        await world.reaches(job, State.RUNNING)
        await _acquired_by_another(world, engine)
        # The attempt ends; the former driver observes it and finds a newer epoch when it writes.
        (attempt,) = await world.attempts(job)
        await runtimes.get(EngineRef("simulated")).stop(attempt.instance, 0)
        await eventually(lambda: closed_runtimes, what="the former driver stops")
        assert await world.state(job) == State.RUNNING
        async with world.database.write() as session:
            await release_all(session, [engine], "another", world.clock.now() - timedelta(minutes=1))
        await world.reaches(job, State.FAILED)
    assert len(await world.attempts(job)) == 1


async def _holder(world: World, lease: str) -> str | None:
    async with world.database.read() as session:
        return (await holders(session, await lease_time(session, world.clock.now()))).get(lease)


async def _moved(world: World, lease: str, epochs: str | None) -> bool:
    return await _holder(world, lease) not in (None, epochs)


async def _acquired_by_another(world: World, lease: str) -> None:
    async with world.database.write() as session:
        later = world.clock.now()
        assert await acquire_all(session, [lease], "another", later, timedelta(hours=1), force=True)


async def _schedule(world: World, server: Server, cluster: int) -> None:
    """Schedule the cluster once, under the server's lease."""
    fence = server.leases.fence(cluster_lease(cluster))
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert fence is not None
    assert view is not None
    result = plan(view.snapshot, view.policy)
    async with world.database.write() as session:
        await commit_plan(session, view, result, fence=fence, install=world.install, now=world.clock.now())


async def _schedulable(world: World, cluster: int) -> bool:
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    return bool(view.snapshot.nodes.schedulable.any())
