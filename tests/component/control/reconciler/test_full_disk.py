"""A nearly full disk: no new starts, with a reason, until there is space; running attempts continue."""

from __future__ import annotations

from datetime import timedelta

from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.observation import ObservedState
from hypervisor.kernel.resources import Resources
from hypervisor.lifecycle.states import State
from hypervisor.runtimes.protocol import LaunchSpec
from hypervisor.scheduling.plan import plan
from hypervisor.store.leases import Fence, acquire
from tests.support.wait import eventually
from tests.support.world import World, simulated

FULL = "the disk of /data has less than 256 MiB free"


class Disk:
    """A cordon check that the test controls; counts its calls."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.checks = 0

    def __call__(self) -> str | None:
        self.checks += 1
        return FULL if self.full else None


def cordon_by(world: World, disk: Disk) -> Disk:
    world.cordon_checks = {EngineRef("simulated"): disk}
    return disk


async def test_new_deployments_wait_with_a_reason_and_start_when_there_is_space(world: World) -> None:
    disk = cordon_by(world, Disk())
    cluster = await world.cluster()
    async with world.loops():
        running = await world.submit(cluster, **simulated())
        await world.reaches(running, State.RUNNING)
        disk.full = True
        queued = await world.submit(cluster, **simulated())

        async def shows_the_reason() -> bool:
            deployment = await world.get(queued)
            return (deployment.state, deployment.reason_code, deployment.reason) == (
                "QUEUED",
                "no_room_on_disk",
                FULL,
            )

        await eventually(shows_the_reason, within=30)
        assert ((await world.get(queued)).reason_data or {})["suggestion"].startswith("free space")
        assert await world.state(running) == State.RUNNING
        disk.full = False
        await world.reaches(queued, State.RUNNING, within=30)
    assert len(await world.attempts(running)) == 1
    await world.check_invariants()


async def test_committed_attempts_wait_for_space_and_existing_instances_are_adopted(world: World) -> None:
    disk = cordon_by(world, Disk(full=True))
    cluster = await world.cluster()
    blocked, created = await world.submit_many(cluster, [simulated(), simulated()])
    await _commit_all(world, cluster)
    registry = world.registry()
    instance = (await world.attempts(created))[0].instance
    await registry.get(EngineRef("simulated")).start(LaunchSpec(instance, Resources(1000, 64, 0)))
    await registry.close()

    async with world.loops() as runtimes:
        await world.reaches(created, State.RUNNING, within=30)
        checks = disk.checks
        await eventually(lambda: disk.checks > checks + 5, within=30)
        assert await world.state(blocked) == State.STARTING
        name = (await world.attempts(blocked))[0].instance
        deployment = (await runtimes.get(EngineRef("simulated")).observe([name]))[name]
        assert deployment.state is ObservedState.ABSENT
        disk.full = False
        await world.reaches(blocked, State.RUNNING, within=30)
    await world.check_invariants()


async def _commit_all(world: World, cluster_id: int) -> None:
    """Commit a plan for everything, as a scheduler would just before the disk filled up."""
    async with world.database.read() as session:
        view = await load_cluster(session, cluster_id, world.clock.now())
    assert view is not None
    async with world.database.write() as session:
        now = world.clock.now()
        epoch = await acquire(session, "test", "test", now, timedelta(seconds=15))
        assert epoch is not None
        fence = Fence("test", epoch)
        result = plan(view.snapshot, view.policy)
        await commit_plan(session, view, result, fence=fence, install=world.install, now=now)
