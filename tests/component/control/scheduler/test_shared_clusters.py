"""The loops on a cluster that two organizations share, and what keeps preemption within bounds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from hypervisor.lifecycle.states import State
from hypervisor.store.tables import ClusterShare, Deployment, Organization
from tests.support.wait import eventually
from tests.support.world import World, simulated


async def guest_of(world: World, cluster_id: int, **terms: Any) -> int:
    """Another organization that has accepted a share of the cluster; its id."""
    now = world.clock.now()
    async with world.database.write() as session:
        guest = Organization(name="guests", name_normalized="guests", created_at=now)
        session.add(guest)
        await session.flush()
        session.add(
            ClusterShare(
                cluster_id=cluster_id,
                organization_id=guest.id,
                state="accepted",
                offered_at=now,
                answered_at=now,
                **terms,
            )
        )
        return guest.id


async def running(world: World, ids: list[int], count: int) -> bool:
    states = await world.states(ids)
    assert states.get("RUNNING", 0) == count, states
    return True


async def test_idle_capacity_is_borrowed_and_reclaimed_with_a_receipt_on_both_sides(world: World) -> None:
    cluster = await world.cluster(cpu=4000)
    guest = await guest_of(world, cluster, guaranteed_cpu_milli=2000, guaranteed_ram_mib=2048)
    async with world.loops():
        theirs = await world.submit_many(
            cluster,
            [
                {"name": f"guest-{n}", "organization_id": guest, "priority": 900, **simulated()}
                for n in range(6)
            ],
        )
        await eventually(lambda: running(world, theirs, 4))
        ours = await world.submit_many(
            cluster, [{"name": f"ours-{n}", "priority": 100, **simulated()} for n in range(3)]
        )
        await eventually(lambda: running(world, ours, 2))
        await eventually(lambda: running(world, theirs, 2))
        await world.check_invariants()
    receipts = [event for id_ in ours for event in await world.events(id_)]
    won = [event.data for event in receipts if event.type == "deployment.preemption"]
    lost = [
        event.data
        for id_ in theirs
        for event in await world.events(id_)
        if event.type == "deployment.preempted"
    ]
    assert len(won) == len(lost) == 2
    assert all(data is not None and data["rule"].startswith("reclaim") for data in (*won, *lost))
    assert "guest-" not in str([(event.message, event.data) for event in receipts])
    assert "ours-" not in str(lost)


async def test_a_limit_holds_while_the_cluster_idles(world: World) -> None:
    cluster = await world.cluster(cpu=4000)
    guest = await guest_of(world, cluster, limit_cpu_milli=1000)
    async with world.loops():
        theirs = await world.submit_many(cluster, [{"organization_id": guest, **simulated()}] * 2)

        async def told() -> bool:
            waiting = [one for one in [await world.get(id_) for id_ in theirs] if one.state == State.QUEUED]
            assert [one.reason_code for one in waiting] == ["quota_limit"], waiting
            assert waiting[0].reason_data is not None
            assert waiting[0].reason_data["shortfall"]["cpu_cores"] == 1
            return True

        await eventually(told)
        await world.check_invariants()


async def test_after_its_budget_of_preemptions_a_deployment_rests(world: World) -> None:
    cluster = await world.cluster(cpu=1000, preemption_budget=1)
    async with world.loops():
        low = await world.submit(cluster, priority=100, **simulated())
        await world.reaches(low, State.RUNNING)
        first = await world.submit(cluster, priority=900, **simulated(0.1))
        await world.reaches(first, State.SUCCEEDED)
        await world.reaches(low, State.RUNNING)
        second = await world.submit(cluster, priority=900, **simulated(0.1))

        async def waits() -> bool:
            assert (await world.get(second)).reason_code == "insufficient_cpu"
            return True

        await eventually(waits)
        assert await world.state(low) == State.RUNNING
    assert (await world.get(low)).preemptions == 1


async def test_a_pair_that_evicts_each_other_in_turn_is_frozen(world: World) -> None:
    cluster = await world.cluster(cpu=1000, preemption_budget=0)
    one = await world.submit(cluster, name="one", priority=500, **simulated())
    async with world.loops():
        await world.reaches(one, State.RUNNING)
        other = await world.submit(cluster, name="other", priority=100, **simulated())
        up, down = other, one
        for _ in range(4):
            await _swap(world, up, down)
            await world.reaches(up, State.RUNNING)
            up, down = down, up
        await _swap(world, up, down)

        async def waits() -> bool:
            assert (await world.get(up)).reason_code == "insufficient_cpu"
            return True

        await eventually(waits)
        assert await world.state(down) == State.RUNNING
    for id_ in (one, other):
        frozen = [event for event in await world.events(id_) if event.type == "scheduler.pair_frozen"]
        assert len(frozen) == 1


async def test_a_waiting_child_lends_its_priority_to_its_parent(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        middle = await world.submit(cluster, priority=500, **simulated())
        await world.reaches(middle, State.RUNNING)
        parent = await world.submit(cluster, priority=100, **simulated(0.1))
        await world.submit(cluster, priority=900, after={parent: "succeeded"}, **simulated())
        await world.reaches(parent, State.SUCCEEDED)
    assert (await world.attempts(middle))[0].preempted_by == parent


async def _swap(world: World, up: int, down: int) -> None:
    """As if somebody raised one and lowered the other."""
    async with world.database.write() as session:
        await session.execute(update(Deployment).where(Deployment.id == up).values(priority=900))
        await session.execute(update(Deployment).where(Deployment.id == down).values(priority=100))
    world.wakeup.notify("scheduler")
