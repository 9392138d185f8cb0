"""A nearly full disk: nothing new is started, with a reason, until there is room; what runs goes on."""

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
    """Says that it is full while the test wants it so, and counts who asked."""

    def __init__(self, *, full: bool = False) -> None:
        self.full = full
        self.asked = 0

    def __call__(self) -> str | None:
        self.asked += 1
        return FULL if self.full else None


def closing(world: World, disk: Disk) -> Disk:
    world.obstacles = {EngineRef("simulated"): disk}
    return disk


async def test_new_work_waits_with_a_reason_and_starts_when_there_is_room(world: World) -> None:
    disk = closing(world, Disk())
    cluster = await world.cluster()
    async with world.loops():
        before = await world.submit(cluster, **simulated())
        await world.reaches(before, State.RUNNING)
        disk.full = True
        after = await world.submit(cluster, **simulated())

        async def told() -> bool:
            seen = await world.get(after)
            return (seen.state, seen.reason_code, seen.reason) == ("QUEUED", "no_room_on_disk", FULL)

        await eventually(told, within=30)
        assert ((await world.get(after)).reason_data or {})["suggestion"].startswith("free room")
        assert await world.state(before) == State.RUNNING
        disk.full = False
        await world.reaches(after, State.RUNNING, within=30)
    assert len(await world.attempts(before)) == 1
    await world.check_invariants()


async def test_what_was_committed_before_waits_for_room_and_what_has_begun_is_adopted(world: World) -> None:
    disk = closing(world, Disk(full=True))
    cluster = await world.cluster()
    waits, begun = await world.submit_many(cluster, [simulated(), simulated()])
    await _commit_all(world, cluster)
    registry = world.registry()
    instance = (await world.attempts(begun))[0].instance
    await registry.get(EngineRef("simulated")).start(LaunchSpec(instance, Resources(1000, 64, 0)))
    await registry.close()

    async with world.loops() as runtimes:
        await world.reaches(begun, State.RUNNING, within=30)
        asked = disk.asked
        await eventually(lambda: disk.asked > asked + 5, within=30)
        assert await world.state(waits) == State.STARTING
        name = (await world.attempts(waits))[0].instance
        seen = (await runtimes.get(EngineRef("simulated")).observe([name]))[name]
        assert seen.state is ObservedState.ABSENT
        disk.full = False
        await world.reaches(waits, State.RUNNING, within=30)
    await world.check_invariants()


async def _commit_all(world: World, cluster_id: int) -> None:
    """What a scheduler would have committed just before the disk filled up."""
    async with world.database.read() as session:
        view = await load_cluster(session, cluster_id, world.clock.now())
    assert view is not None
    async with world.database.write() as session:
        now = world.clock.now()
        epoch = await acquire(session, "test", "test", now, timedelta(seconds=15))
        assert epoch is not None
        fence = Fence("test", epoch)
        made = plan(view.snapshot, view.policy)
        await commit_plan(session, view, made, fence=fence, install=world.install, now=now)
