"""Gangs on real databases: all replicas or none, from placement to end."""

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
from tests.support.logs import lines_of
from tests.support.wait import eventually
from tests.support.world import World, simulated


def shell(script: str) -> dict[str, object]:
    return {"command": ["sh", "-c", script]}


def by_replica(attempts: list[Attempt]) -> list[tuple[int, int, str]]:
    return [(attempt.number, attempt.replica, attempt.node_name) for attempt in attempts]


async def test_the_job_succeeds_when_all_replicas_have_succeeded(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000, gpus=2)
    async with world.loops():
        job = await world.submit(cluster, replicas=3, gpu_milli=1000, **simulated(0.6))
        await world.reaches(job, State.RUNNING)
        attempts = await world.attempts(job)
        assert by_replica(attempts) == [(1, 0, "node-1"), (1, 1, "node-1"), (1, 2, "node-2")]
        assert [attempt.gpu_indices for attempt in attempts] == [[0], [1], [0]]
        assert all(attempt.started_at is not None for attempt in attempts)
        await world.check_invariants()
        finished = await world.reaches(job, State.SUCCEEDED)
    assert (finished.exit_code, finished.attempts_made) == (0, 1)
    states = [event.to_state for event in await world.events(job) if event.to_state]
    assert states == ["QUEUED", "STARTING", "RUNNING", "SUCCEEDED"]
    await world.check_invariants()


async def test_spread_replicas_prefer_different_nodes(world: World) -> None:
    cluster = await world.cluster(nodes=3, cpu=4000)
    async with world.loops():
        service = await world.submit(cluster, replicas=3, replica_placement="spread", **simulated())
        await world.reaches(service, State.RUNNING)
        nodes = {attempt.node_name for attempt in await world.attempts(service)}
    assert nodes == {"node-1", "node-2", "node-3"}


async def test_nothing_is_allocated_while_one_replica_does_not_fit(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000)
    async with world.loops():
        other = await world.submit(cluster, cpu_milli=2000, **simulated())
        await world.reaches(other, State.RUNNING)
        gang = await world.submit(cluster, replicas=3, **simulated())

        async def shows_the_reason() -> bool:
            deployment = await world.get(gang)
            assert deployment.reason_code == "gang_incomplete", deployment.reason
            assert (deployment.reason or "").startswith("fits 2 of 3 replicas; the next one needs")
            assert (deployment.reason_data or {})["shortfall"]["cpu_cores"] == 1
            return True

        await eventually(shows_the_reason)
        assert await world.attempts(gang) == []
        await world.stop(other)
        await world.reaches(gang, State.RUNNING)
        await world.check_invariants()


async def test_a_failed_replica_stops_the_others(world: World) -> None:
    cluster = await world.cluster(runtime="process", nodes=2)
    async with world.loops():
        gang = await world.submit(
            cluster,
            replicas=3,
            replica_placement="spread",
            **shell('if [ "$HV_REPLICA" = 1 ]; then sleep 0.5; exit 3; fi; exec sleep 60'),
        )
        failed = await world.reaches(gang, State.FAILED)
    assert failed.exit_code == 3
    assert (failed.reason_code, failed.reason) == ("gang_failed", "replica 1: ended with exit code 3")
    outcomes = [attempt.outcome for attempt in await world.attempts(gang)]
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
            deployment = await world.get(gang)
            assert (deployment.state, deployment.retries_used) == ("QUEUED", 1), deployment.reason
            assert deployment.not_before is not None
            return True

        await eventually(waits_to_be_retried)
        assert all(attempt.finished_at is not None for attempt in await world.attempts(gang))
    await world.check_invariants()


async def test_each_replica_has_its_rank_and_nodes_in_the_environment(world: World) -> None:
    cluster = await world.cluster(runtime="process", nodes=2, cpu=1000)
    async with world.loops() as registry:
        gang = await world.submit(
            cluster, replicas=2, **shell("echo $HV_REPLICA of $HV_REPLICAS on $HV_NODE of $HV_GANG_NODES")
        )
        await world.reaches(gang, State.SUCCEEDED)
        runtime = registry.get(EngineRef("process"))
        lines = []
        for attempt in await world.attempts(gang):
            lines += await lines_of(runtime, attempt.instance, tail=10)
    assert lines == ["0 of 2 on node-1 of node-1,node-2", "1 of 2 on node-2 of node-1,node-2"]


async def test_a_stop_ends_all_replicas(world: World) -> None:
    cluster = await world.cluster(nodes=2)
    async with world.loops():
        gang = await world.submit(cluster, replicas=4, **simulated())
        await world.reaches(gang, State.RUNNING)
        await world.stop(gang)
        await world.reaches(gang, State.STOPPED)
    assert {attempt.outcome for attempt in await world.attempts(gang)} == {"stopped"}
    await world.check_invariants()


async def test_max_runtime_ends_all_replicas(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        gang = await world.submit(cluster, replicas=2, max_runtime_seconds=1, **simulated())
        failed = await world.reaches(gang, State.FAILED)
    assert failed.reason_code == "max_runtime"
    assert {attempt.outcome for attempt in await world.attempts(gang)} == {"max_runtime"}


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

        async def runs_elsewhere() -> bool:
            deployment = await world.get(gang)
            assert (deployment.state, deployment.attempts_made) == ("RUNNING", 2), deployment.reason
            return True

        await eventually(runs_elsewhere)
        attempts = await world.attempts(gang)
        assert [attempt.outcome for attempt in attempts[:2]] == ["drained", "drained"]
        assert first.node_name not in {attempt.node_name for attempt in attempts[2:]}
    await world.check_invariants()


async def test_a_gang_is_preempted_and_placed_again_as_a_whole(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=2000)
    async with world.loops():
        low = await world.submit(cluster, name="low", priority=100, replicas=4, **simulated())
        await world.reaches(low, State.RUNNING)
        high = await world.submit(cluster, name="high", priority=750, cpu_milli=2000, **simulated(0.3))
        await world.reaches(high, State.SUCCEEDED)

        async def runs_again() -> bool:
            deployment = await world.get(low)
            assert (deployment.state, deployment.attempts_made, deployment.preemptions) == (
                "RUNNING",
                2,
                1,
            ), deployment.reason
            return True

        await eventually(runs_again)
        receipt = next(e for e in await world.events(high) if e.type == "deployment.preemption")
        assert [victim["id"] for victim in (receipt.data or {})["victims"]] == [low]
        assert {attempt.outcome for attempt in (await world.attempts(low))[:4]} == {"preempted"}
    await world.check_invariants()


async def test_a_gang_takes_victims_on_several_nodes(world: World) -> None:
    cluster = await world.cluster(nodes=3, cpu=2000)
    async with world.loops():
        bodies = [{"name": f"low-{n}", "priority": 100, "cpu_milli": 2000, **simulated()} for n in range(3)]
        low = await world.submit_many(cluster, bodies)
        for id_ in low:
            await world.reaches(id_, State.RUNNING)
        high = await world.submit(
            cluster, name="high", priority=750, cpu_milli=2000, replicas=2, **simulated()
        )
        await world.reaches(high, State.RUNNING)
        assert await world.states(low) == {"RUNNING": 1, "QUEUED": 2}
        receipt = next(e for e in await world.events(high) if e.type == "deployment.preemption")
        assert len((receipt.data or {})["victims"]) == 2
        assert len((receipt.data or {})["nodes"]) == 2
    await world.check_invariants()


async def test_a_gang_that_does_not_run_in_time_is_queued_again_as_a_whole(world: World) -> None:
    cluster = await world.cluster(nodes=2)
    async with world.loops():
        gang = await world.submit(
            cluster,
            replicas=2,
            replica_placement="spread",
            gang_timeout_seconds=1,
            **simulated(start_delay="60"),
        )

        async def is_requeued() -> bool:
            deployment = await world.get(gang)
            assert (deployment.state, deployment.reason_code) == ("QUEUED", "gang_timeout"), deployment.reason
            assert deployment.not_before is not None
            assert deployment.not_before > world.clock.now() + timedelta(seconds=5)
            return True

        await eventually(is_requeued)
        assert {attempt.outcome for attempt in await world.attempts(gang)} == {"gang_timeout"}
    await world.check_invariants()


async def test_a_commit_rejects_the_whole_gang_when_one_replica_no_longer_fits(world: World) -> None:
    cluster = await world.cluster(nodes=2, cpu=1000)
    gang = await world.submit(cluster, replicas=2, **simulated())
    async with world.database.read() as session:
        view = await load_cluster(session, cluster, world.clock.now())
    assert view is not None
    result = plan(view.snapshot, view.policy)
    assert len(result.placements) == 2
    async with world.database.write() as session:
        node = await session.get_one(Node, result.placements[1].node_id)
        node.cordoned = True
    async with world.database.write() as session:
        epoch = await acquire(session, "scheduler", "test", world.clock.now(), timedelta(minutes=1))
        assert epoch is not None
        committed = await commit_plan(
            session,
            view,
            result,
            fence=Fence("scheduler", epoch),
            install=world.install,
            now=world.clock.now(),
        )
    assert committed.rejected == [gang]
    assert committed.started == []
    assert await world.attempts(gang) == []
    assert await world.state(gang) == "QUEUED"
    await world.check_invariants()


async def test_a_gang_whose_replicas_end_together_is_deleted_once(world: World) -> None:
    cluster = await world.cluster()
    gang = await world.submit(cluster, replicas=2, **simulated())
    async with world.loops():
        await world.reaches(gang, State.RUNNING)
    async with world.database.write() as session:
        row = await session.get_one(Deployment, gang, with_for_update=True)
        row.delete_requested_at = world.clock.now()
    await world.stop(gang, StopReason.DELETED)
    ended = Observation(ObservedState.EXITED, 143, finished_at=world.clock.now())
    observations = [Ended(attempt.id, gang, ended) for attempt in await world.attempts(gang)]
    async with world.database.write() as session:
        await apply_observations(session, observations, world.clock.now(), system_random())
    deleted = [event for event in await world.events(gang) if event.type == "deployment.deleted"]
    assert len(deleted) == 1
