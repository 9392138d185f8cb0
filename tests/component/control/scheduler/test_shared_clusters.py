"""The loops on a cluster that two organizations share, and the limits of preemption."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from hypervisor.lifecycle.states import State
from hypervisor.store.tables import ClusterShare, Deployment, Organization
from tests.support.wait import eventually
from tests.support.world import World, simulated


async def guest_of(world: World, cluster_id: int, **terms: Any) -> int:
    """Create another organization with an accepted share of the cluster; its id."""
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


async def test_idle_capacity_is_borrowed_and_reclaimed_with_a_record_on_both_sides(world: World) -> None:
    cluster = await world.cluster(cpu=4000)
    guest = await guest_of(world, cluster, guaranteed_cpu_milli=2000, guaranteed_ram_mib=2048)
    async with world.loops():
        guest_ids = await world.submit_many(
            cluster,
            [
                {"name": f"guest-{n}", "organization_id": guest, "priority": 900, **simulated()}
                for n in range(6)
            ],
        )
        await eventually(lambda: running(world, guest_ids, 4))
        owner_ids = await world.submit_many(
            cluster, [{"name": f"ours-{n}", "priority": 100, **simulated()} for n in range(3)]
        )
        await eventually(lambda: running(world, owner_ids, 2))
        await eventually(lambda: running(world, guest_ids, 2))
        await world.check_invariants()
    receipts = [event for id_ in owner_ids for event in await world.events(id_)]
    preemptor_records = [event.data for event in receipts if event.type == "deployment.preemption"]
    victim_records = [
        event.data
        for id_ in guest_ids
        for event in await world.events(id_)
        if event.type == "deployment.preempted"
    ]
    assert len(preemptor_records) == len(victim_records) == 2
    assert all(
        data is not None and data["rule"].startswith("reclaim")
        for data in (*preemptor_records, *victim_records)
    )
    assert "guest-" not in str([(event.message, event.data) for event in receipts])
    assert "ours-" not in str(victim_records)


async def test_a_limit_holds_while_the_cluster_idles(world: World) -> None:
    cluster = await world.cluster(cpu=4000)
    guest = await guest_of(world, cluster, limit_cpu_milli=1000)
    async with world.loops():
        guest_ids = await world.submit_many(cluster, [{"organization_id": guest, **simulated()}] * 2)

        async def shows_the_reason() -> bool:
            waiting = [
                deployment
                for deployment in [await world.get(id_) for id_ in guest_ids]
                if deployment.state == State.QUEUED
            ]
            assert [deployment.reason_code for deployment in waiting] == ["quota_limit"], waiting
            assert waiting[0].reason_data is not None
            assert waiting[0].reason_data["shortfall"]["cpu_cores"] == 1
            return True

        await eventually(shows_the_reason)
        await world.check_invariants()


async def test_a_deployment_over_its_preemption_budget_is_protected(world: World) -> None:
    cluster = await world.cluster(cpu=1000, preemption_budget=1)
    async with world.loops():
        low = await world.submit(cluster, priority=100, **simulated())
        await world.reaches(low, State.RUNNING)
        first = await world.submit(cluster, priority=900, **simulated(0.1))
        await world.reaches(first, State.SUCCEEDED)
        await world.reaches(low, State.RUNNING)
        second = await world.submit(cluster, priority=900, **simulated(0.1))

        async def is_blocked() -> bool:
            assert (await world.get(second)).reason_code == "insufficient_cpu"
            return True

        await eventually(is_blocked)
        assert await world.state(low) == State.RUNNING
    assert (await world.get(low)).preemptions == 1


async def test_a_ping_pong_pair_is_frozen(world: World) -> None:
    cluster = await world.cluster(cpu=1000, preemption_budget=0)
    one = await world.submit(cluster, name="one", priority=500, **simulated())
    async with world.loops():
        await world.reaches(one, State.RUNNING)
        other = await world.submit(cluster, name="other", priority=100, **simulated())
        winner, loser = other, one
        for _ in range(4):
            await _swap(world, winner, loser)
            await world.reaches(winner, State.RUNNING)
            winner, loser = loser, winner
        await _swap(world, winner, loser)

        async def is_blocked() -> bool:
            assert (await world.get(winner)).reason_code == "insufficient_cpu"
            return True

        await eventually(is_blocked)
        assert await world.state(loser) == State.RUNNING
    for id_ in (one, other):
        frozen = [event for event in await world.events(id_) if event.type == "scheduler.pair_frozen"]
        assert len(frozen) == 1


async def test_a_parent_inherits_the_priority_of_its_waiting_child(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        middle = await world.submit(cluster, priority=500, **simulated())
        await world.reaches(middle, State.RUNNING)
        parent = await world.submit(cluster, priority=100, **simulated(0.1))
        await world.submit(cluster, priority=900, after={parent: "succeeded"}, **simulated())
        await world.reaches(parent, State.SUCCEEDED)
    assert (await world.attempts(middle))[0].preempted_by == parent


async def _swap(world: World, winner: int, loser: int) -> None:
    """Raise the priority of one and lower that of the other."""
    async with world.database.write() as session:
        await session.execute(update(Deployment).where(Deployment.id == winner).values(priority=900))
        await session.execute(update(Deployment).where(Deployment.id == loser).values(priority=100))
    world.wakeup.notify("scheduler")
