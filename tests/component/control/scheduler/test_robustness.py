"""The loops stay correct when a server, an engine or a competing scheduler fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta

import pytest
from sqlalchemy import update

from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import ClusterView, load_cluster
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.protocol import (
    LaunchSpec,
    LogChunk,
    Observation,
    Runtime,
    RuntimeInfo,
    RuntimeUnavailable,
)
from hypervisor.runtimes.simulated.runtime import SimulatedRuntime
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.store.leases import Fence, StaleEpoch, acquire
from hypervisor.store.tables import Deployment, InstanceGc, Node
from tests.support.wait import eventually
from tests.support.world import World, simulated


class DisconnectableRuntime:
    """A runtime whose engine can be disconnected: every call raises RuntimeUnavailable then."""

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner
        self.disconnected = False
        self.rejected_calls = 0

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def ends_are_final(self) -> bool:
        return self._inner.ends_are_final

    def _check(self) -> None:
        if self.disconnected:
            self.rejected_calls += 1
            raise RuntimeUnavailable("the engine is cut off")

    async def probe(self) -> RuntimeInfo:
        self._check()
        return await self._inner.probe()

    async def start(self, spec: LaunchSpec) -> Observation:
        self._check()
        return await self._inner.start(spec)

    async def observe(self, instances: Collection[str]) -> Mapping[str, Observation]:
        self._check()
        return await self._inner.observe(instances)

    async def stop(self, instance: str, grace_seconds: float) -> None:
        self._check()
        await self._inner.stop(instance, grace_seconds)

    async def remove(self, instance: str) -> bool:
        self._check()
        return await self._inner.remove(instance)

    async def list_instances(self) -> Mapping[str, Observation]:
        self._check()
        return await self._inner.list_instances()

    def logs(
        self, instance: str, *, tail: int | None = None, after: str | None = None, follow: bool = False
    ) -> AsyncIterator[LogChunk]:
        return self._inner.logs(instance, tail=tail, after=after, follow=follow)

    async def purge_logs(self, instance: str) -> None:
        self._check()
        await self._inner.purge_logs(instance)

    def changes(self) -> AsyncIterator[str]:
        return self._inner.changes()

    async def close(self) -> None:
        await self._inner.close()


@pytest.fixture
def engine(world: World) -> DisconnectableRuntime:
    runtime = DisconnectableRuntime(SimulatedRuntime(world.folder, world.install, world.clock))
    world.runtime_overrides["simulated"] = runtime
    return runtime


async def test_an_unreachable_engine_keeps_its_attempts_and_gets_no_new_ones(
    world: World, engine: DisconnectableRuntime
) -> None:
    cluster = await world.cluster()
    async with world.loops():
        running = await world.submit(cluster, **simulated())
        await world.reaches(running, State.RUNNING)
        engine.disconnected = True
        await eventually(lambda: engine.rejected_calls > 0)
        late = await world.submit(cluster, **simulated())
        await eventually(lambda: _waits_for_a_node(world, late))
        assert await world.state(running) == State.RUNNING
        engine.disconnected = False
        await world.reaches(late, State.RUNNING)
        assert await world.state(running) == State.RUNNING
    assert len(await world.attempts(running)) == 1
    await world.check_invariants()


async def test_a_new_server_adopts_running_instances(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        ids = await world.submit_many(cluster, [simulated(), simulated(1.0)])
        for deployment_id in ids:
            await world.reaches(deployment_id, State.RUNNING)
    async with world.loops():
        await world.reaches(ids[1], State.SUCCEEDED)
        assert await world.state(ids[0]) == State.RUNNING
    assert [len(await world.attempts(deployment_id)) for deployment_id in ids] == [1, 1]
    await world.check_invariants()


async def test_an_attempt_that_was_only_committed_is_started_by_the_next_server(world: World) -> None:
    """A crash between the commit and the call to the runtime."""
    cluster = await world.cluster()
    job = await world.submit(cluster, **simulated(0.1))
    view, result, fence = await _planned(world, cluster)
    async with world.database.write() as session:
        await commit_plan(session, view, result, fence=fence, install=world.install, now=world.clock.now())
    assert await world.state(job) == State.STARTING
    async with world.loops():
        await world.reaches(job, State.SUCCEEDED)
    assert len(await world.attempts(job)) == 1


async def test_a_plan_of_an_older_epoch_is_not_committed(world: World) -> None:
    cluster = await world.cluster()
    job = await world.submit(cluster, **simulated())
    view, result, fence = await _planned(world, cluster)
    async with world.database.write() as session:
        later = world.clock.now() + timedelta(minutes=1)
        assert await acquire(session, fence.lease, "another", later, timedelta(seconds=15)) == fence.epoch + 1
    with pytest.raises(StaleEpoch):
        async with world.database.write() as session:
            await commit_plan(
                session, view, result, fence=fence, install=world.install, now=world.clock.now()
            )
    assert await world.state(job) == State.QUEUED


async def test_two_plans_for_the_same_capacity_cannot_both_be_committed(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    first = await world.submit(cluster, **simulated())
    view_one, plan_one, fence = await _planned(world, cluster)
    async with world.database.write() as session:
        await session.execute(update(Deployment).where(Deployment.id == first).values(state="CANCELLED"))
    second = await world.submit(cluster, **simulated())
    view_two, plan_two, _ = await _planned(world, cluster, fence)
    async with world.database.write() as session:
        await session.execute(update(Deployment).where(Deployment.id == first).values(state="QUEUED"))
    for view, result in ((view_two, plan_two), (view_one, plan_one)):
        async with world.database.write() as session:
            committed = await commit_plan(
                session, view, result, fence=fence, install=world.install, now=world.clock.now()
            )
    assert committed.rejected == [first]
    assert (await world.state(first), await world.state(second)) == (State.QUEUED, State.STARTING)
    await world.check_invariants()


async def test_a_plan_for_a_node_that_was_cordoned_since_is_rejected(world: World) -> None:
    cluster = await world.cluster()
    job = await world.submit(cluster, **simulated())
    view, result, fence = await _planned(world, cluster)
    async with world.database.write() as session:
        await session.execute(update(Node).values(cordoned=True))
    async with world.database.write() as session:
        committed = await commit_plan(
            session, view, result, fence=fence, install=world.install, now=world.clock.now()
        )
    assert committed.rejected == [job]
    await world.check_invariants()


async def test_an_ended_instance_is_removed_from_the_engine(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops() as runtimes:
        job = await world.submit(cluster, **simulated(0.05))
        await world.reaches(job, State.SUCCEEDED)

        async def is_removed() -> bool:
            async with world.database.read() as session:
                listed = await session.get(InstanceGc, (await world.attempts(job))[0].instance)
            return listed is None and not await runtimes.get(EngineRef("simulated")).list_instances()

        await eventually(is_removed)


async def _planned(
    world: World, cluster_id: int, fence: Fence | None = None
) -> tuple[ClusterView, Plan, Fence]:
    """The state of a scheduler between planning and committing."""
    if fence is None:
        async with world.database.write() as session:
            epoch = await acquire(session, "scheduler", "test", world.clock.now(), timedelta(seconds=15))
        assert epoch is not None
        fence = Fence("scheduler", epoch)
    async with world.database.read() as session:
        view = await load_cluster(session, cluster_id, world.clock.now())
    assert view is not None
    return view, plan(view.snapshot, view.policy), fence


async def _waits_for_a_node(world: World, deployment_id: int) -> bool:
    deployment = await world.get(deployment_id)
    return deployment.state == State.QUEUED and deployment.reason_code == "no_schedulable_node"
