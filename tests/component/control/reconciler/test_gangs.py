"""Deployments with several replicas on real databases: all or none, together to the end."""

from __future__ import annotations

from datetime import timedelta

from hypervisor.control.reconciler.apply_observations import Ended, apply_observations
from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.deployments.state.drain import WorkloadDrainer
from hypervisor.infra.randomness import system_random
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.plan import plan
from hypervisor.store.leases import Fence, acquire
from hypervisor.store.tables import Attempt, Deployment, Node
from tests.support.wait import eventually
from tests.support.world import World, simulated


def shell(script: str) -> dict[str, object]:
    return {"command": ["sh", "-c", script]}


def by_replica(attempts: list[Attempt]) -> list[tuple[int, int, str]]:
    return [(one.number, one.replica, one.node_name) for one in attempts]


async def test_all_replicas_run_and_the_job_has_succeeded_when_all_have(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000, gpus=2)
    async with world.loops():
        job = await world.submit(cluster, replicas=3, gpu_milli=1000, **simulated(0.6))
        await world.reaches(job, State.RUNNING)
        attempts = await world.attempts(job)
        assert by_replica(attempts) == [(1, 0, "node-1"), (1, 1, "node-1"), (1, 2, "node-2")]
        assert [one.gpu_indices for one in attempts] == [[0], [1], [0]]
        assert all(one.started_at is not None for one in attempts)
        await world.check_invariants()
        done = await world.reaches(job, State.SUCCEEDED)
    assert (done.exit_code, done.attempts_made) == (0, 1)
    states = [event.to_state for event in await world.events(job) if event.to_state]
    assert states == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    await world.check_invariants()


async def test_spread_replicas_prefer_different_nodes(world: World) -> None:
    cluster = await world.cluster(nodes=3, cpu=4000)
    async with world.loops():
        service = await world.submit(cluster, replicas=3, spread=True, **simulated())
        await world.reaches(service, State.RUNNING)
        nodes = {one.node_name for one in await world.attempts(service)}
    assert nodes == {"node-1", "node-2", "node-3"}


async def test_nothing_is_held_while_one_replica_does_not_fit(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000)
    async with world.loops():
        other = await world.submit(cluster, cpu_milli=2000, **simulated())
        await world.reaches(other, State.RUNNING)
        gang = await world.submit(cluster, replicas=3, **simulated())

        async def told() -> bool:
            seen = await world.get(gang)
            assert seen.reason_code == "gang_incomplete", seen.reason
            assert (seen.reason or "").startswith("fits 2 of 3 replicas; the next one needs")
            assert (seen.reason_data or {})["shortfall"]["cpu_cores"] == 1
            return True

        await eventually(told)
        assert await world.attempts(gang) == []
        await world.stop(other)
        await world.reaches(gang, State.RUNNING)
        await world.check_invariants()


async def test_one_that_fails_stops_the_others(world: World) -> None:
    cluster = await world.cluster(runtime="process", nodes=2)
    async with world.loops():
        gang = await world.submit(
            cluster,
            replicas=3,
            spread=True,
            **shell('if [ "$HV_REPLICA" = 1 ]; then sleep 0.5; exit 3; fi; exec sleep 60'),
        )
        failed = await world.reaches(gang, State.FAILED)
    assert failed.exit_code == 3
    assert (failed.reason_code, failed.reason) == ("gang_failed", "replica 1: exited with code 3")
    outcomes = [one.outcome for one in await world.attempts(gang)]
    assert outcomes == ["gang_failed", "failed", "gang_failed"]
    await world.check_invariants()


async def test_a_failure_is_retried_by_the_whole_gang(world: World) -> None:
    cluster = await world.cluster(runtime="process")
    async with world.loops():
        gang = await world.submit(
            cluster,
            replicas=2,
            restart_policy="on-failure",
            max_retries=1,
            **shell('if [ "$HV_REPLICA" = 0 ]; then exit 3; fi; exec sleep 60'),
        )

        async def waits_to_be_retried() -> bool:
            seen = await world.get(gang)
            assert (seen.state, seen.retries_used) == ("QUEUED", 1), seen.reason
            assert seen.not_before is not None
            return True

        await eventually(waits_to_be_retried)
        assert all(one.finished_at is not None for one in await world.attempts(gang))
    await world.check_invariants()


async def test_each_replica_is_told_who_it_is(world: World) -> None:
    cluster = await world.cluster(runtime="process", nodes=2, cpu=1000)
    async with world.loops() as registry:
        gang = await world.submit(
            cluster, replicas=2, **shell("echo $HV_REPLICA of $HV_REPLICAS on $HV_NODE of $HV_GANG_NODES")
        )
        await world.reaches(gang, State.SUCCEEDED)
        runtime = registry.get(EngineRef("process"))
        said = []
        for attempt in await world.attempts(gang):
            said += [line async for line in runtime.logs(attempt.instance, tail=10)]
    assert said == ["0 of 2 on node-1 of node-1,node-2", "1 of 2 on node-2 of node-1,node-2"]


async def test_a_stop_ends_all_replicas(world: World) -> None:
    cluster = await world.cluster(nodes=2)
    async with world.loops():
        gang = await world.submit(cluster, replicas=4, **simulated())
        await world.reaches(gang, State.RUNNING)
        await world.stop(gang)
        await world.reaches(gang, State.STOPPED)
    assert {one.outcome for one in await world.attempts(gang)} == {"stopped"}
    await world.check_invariants()


async def test_max_runtime_ends_all_replicas(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        gang = await world.submit(cluster, replicas=2, max_runtime_seconds=1, **simulated())
        failed = await world.reaches(gang, State.FAILED)
    assert failed.reason_code == "max_runtime"
    assert {one.outcome for one in await world.attempts(gang)} == {"max_runtime"}


async def test_draining_the_node_of_one_replica_moves_the_whole_gang(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000)
    async with world.loops():
        gang = await world.submit(cluster, replicas=2, **simulated())
        await world.reaches(gang, State.RUNNING)
        first = (await world.attempts(gang))[0]
        async with world.database.write() as session:
            node = await session.get_one(Node, first.node_id)
            node.draining = True
            await WorkloadDrainer().stop_attempts(
                session,
                [first.id],
                StopReason.DRAINED,
                sentence="its node is drained",
                now=world.clock.now(),
                actor="test",
            )
        world.wakeup.notify("reconciler")

        async def moved() -> bool:
            seen = await world.get(gang)
            assert (seen.state, seen.attempts_made) == ("RUNNING", 2), seen.reason
            return True

        await eventually(moved)
        attempts = await world.attempts(gang)
        assert [one.outcome for one in attempts[:2]] == ["drained", "drained"]
        assert first.node_name not in {one.node_name for one in attempts[2:]}
    await world.check_invariants()


async def test_a_gang_yields_whole_and_comes_back_whole(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000)
    async with world.loops():
        low = await world.submit(cluster, name="low", priority=100, replicas=4, **simulated())
        await world.reaches(low, State.RUNNING)
        high = await world.submit(cluster, name="high", priority=750, cpu_milli=2000, **simulated(0.3))
        await world.reaches(high, State.SUCCEEDED)

        async def back() -> bool:
            seen = await world.get(low)
            assert (seen.state, seen.attempts_made, seen.preemptions) == ("RUNNING", 2, 1), seen.reason
            return True

        await eventually(back)
        receipt = next(e for e in await world.events(high) if e.type == "deployment.preemption")
        assert [victim["id"] for victim in (receipt.data or {})["victims"]] == [low]
        assert {one.outcome for one in (await world.attempts(low))[:4]} == {"preempted"}
    await world.check_invariants()


async def test_a_gang_takes_victims_on_several_nodes(world: World) -> None:
    cluster = await world.cluster(nodes=3, cpu=2000)
    async with world.loops():
        wanted = [{"name": f"low-{n}", "priority": 100, "cpu_milli": 2000, **simulated()} for n in range(3)]
        low = await world.submit_many(cluster, wanted)
        for one in low:
            await world.reaches(one, State.RUNNING)
        high = await world.submit(
            cluster, name="high", priority=750, cpu_milli=2000, replicas=2, **simulated()
        )
        await world.reaches(high, State.RUNNING)
        assert await world.states(low) == {"RUNNING": 1, "QUEUED": 2}
        receipt = next(e for e in await world.events(high) if e.type == "deployment.preemption")
        assert len((receipt.data or {})["victims"]) == 2
        assert len((receipt.data or {})["nodes"]) == 2
    await world.check_invariants()


async def test_one_that_is_not_up_in_time_goes_back_whole(world: World) -> None:
    cluster = await world.cluster(nodes=2)
    async with world.loops():
        gang = await world.submit(
            cluster, replicas=2, spread=True, gang_timeout_seconds=1, **simulated(start_delay="60")
        )

        async def given_up() -> bool:
            seen = await world.get(gang)
            assert (seen.state, seen.reason_code) == ("QUEUED", "gang_timeout"), seen.reason
            assert seen.not_before is not None
            assert seen.not_before > world.clock.now() + timedelta(seconds=5)
            return True

        await eventually(given_up)
        assert {one.outcome for one in await world.attempts(gang)} == {"gang_timeout"}
    await world.check_invariants()


async def test_a_commit_rejects_the_whole_gang_when_one_replica_no_longer_fits(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=1000)
    gang = await world.submit(cluster, replicas=2, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    decided = plan(view.snapshot, view.policy)
    assert len(decided.placements) == 2
    async with world.database.write() as session:
        node = await session.get_one(Node, decided.placements[1].node_id)
        node.cordoned = True
    async with world.database.write() as session:
        epoch = await acquire(session, "scheduler", "test", world.clock.now(), timedelta(minutes=1))
        assert epoch is not None
        committed = await commit_plan(
            session,
            view,
            decided,
            fence=Fence("scheduler", epoch),
            install=world.install,
            now=world.clock.now(),
        )
    assert committed.rejected == [gang]
    assert committed.started == []
    assert await world.attempts(gang) == []
    assert await world.state(gang) == "QUEUED"
    await world.check_invariants()


async def test_a_gang_whose_replicas_are_seen_to_end_together_is_deleted_once(world: World) -> None:
    cluster = await world.cluster()
    gang = await world.submit(cluster, replicas=2, **simulated())
    async with world.loops():
        await world.reaches(gang, State.RUNNING)
    async with world.database.write() as session:
        row = await session.get_one(Deployment, gang, with_for_update=True)
        row.delete_requested_at = world.clock.now()
    await world.stop(gang, StopReason.DELETED)
    gone = Observation(ObservedState.EXITED, 143, finished_at=world.clock.now())
    facts = [Ended(one.id, gang, gone) for one in await world.attempts(gang)]
    async with world.database.write() as session:
        await apply_observations(session, facts, world.clock.now(), system_random())
    deleted = [event for event in await world.events(gang) if event.type == "deployment.deleted"]
    assert len(deleted) == 1
