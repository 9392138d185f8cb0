"""The loops on real databases: placement, queueing, preemption and requeueing."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.store.tables import Deployment
from tests.support.clock import ClockThatIsSet
from tests.support.wait import eventually
from tests.support.world import World, simulated


async def test_a_job_runs_to_its_end_and_frees_its_capacity(world: World) -> None:
    cluster = await world.cluster(gpus=1)
    async with world.loops():
        job = await world.submit(cluster, **simulated(0.05), gpu_milli=1000)
        finished = await world.reaches(job, State.SUCCEEDED)
    assert finished.exit_code == 0
    await world.check_invariants()
    assert [event.to_state for event in await world.events(job)] == [
        "QUEUED",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ]
    (attempt,) = await world.attempts(job)
    assert (attempt.gpu_indices, attempt.outcome, attempt.exit_code) == ([0], "succeeded", 0)


async def test_twenty_submissions_at_once_for_the_capacity_of_ten(world: World) -> None:
    cluster = await world.cluster(cpu=10_000, ram=10_240)
    async with world.loops():
        submissions = (world.submit(cluster, **simulated(), ram_mib=1024) for _ in range(20))
        ids = list(await asyncio.gather(*submissions))
        await eventually(lambda: _counts(world, ids, RUNNING=10, QUEUED=10))

        async def reasons_are_written() -> bool:
            waiting = [d for d in [await world.get(i) for i in ids] if d.state == "QUEUED"]
            assert all(d.reason_code == "insufficient_ram" for d in waiting), {d.reason_code for d in waiting}
            assert all((d.reason_data or {})["shortfall"]["ram_gb"] == 1 for d in waiting)
            return True

        await eventually(reasons_are_written)
        await world.check_invariants()


async def test_a_higher_priority_preempts_exactly_the_needed_victims_and_they_resume(world: World) -> None:
    cluster = await world.cluster(cpu=4000)
    async with world.loops():
        low = await world.submit_many(
            cluster, [{"name": f"low-{n}", "priority": 100, **simulated()} for n in range(4)]
        )
        await eventually(lambda: _counts(world, low, RUNNING=4))
        high = await world.submit(cluster, name="high", priority=750, cpu_milli=2000, **simulated(0.3))
        await world.reaches(high, State.RUNNING)
        await eventually(lambda: _counts(world, low, RUNNING=2, QUEUED=2))
        await world.check_invariants()
        receipt = next(e for e in await world.events(high) if e.type == "deployment.preemption")
        assert receipt.data is not None
        victims = {victim["id"] for victim in receipt.data["victims"]}
        assert len(victims) == 2
        await world.reaches(high, State.SUCCEEDED)
        await eventually(lambda: _counts(world, low, RUNNING=4))
    for victim in victims:
        attempts = await world.attempts(victim)
        assert [a.outcome for a in attempts] == ["preempted", None]
        assert attempts[0].preempted_by == high
        event = next(e for e in await world.events(victim) if e.type == "deployment.preempted")
        assert event.data is not None
        assert event.data["preemptor"]["id"] == high


async def test_freed_capacity_stays_nominated_while_a_victim_stops_slowly(world: World) -> None:
    cluster = await world.cluster(cpu=2000)
    async with world.loops():
        slow = await world.submit(
            cluster, priority=100, cpu_milli=2000, grace_period_seconds=1, **simulated(ignore_term="true")
        )
        await world.reaches(slow, State.RUNNING)
        high = await world.submit(cluster, priority=750, cpu_milli=2000, **simulated())
        await world.reaches(slow, State.STOPPING)
        thief = await world.submit(cluster, priority=600, cpu_milli=1000, **simulated())
        await world.reaches(high, State.RUNNING)
        assert await world.state(thief) == State.QUEUED
        assert (await world.attempts(slow))[0].exit_code == 137
        await world.check_invariants()


async def test_equal_priority_never_evicts(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        first = await world.submit(cluster, **simulated())
        await world.reaches(first, State.RUNNING)
        second = await world.submit(cluster, **simulated())
        await eventually(lambda: _has_reason(world, second, "insufficient_cpu"))
        assert await world.state(first) == State.RUNNING


async def test_a_child_starts_when_its_parent_has_succeeded(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        parent = await world.submit(cluster, name="train", **simulated(0.2))
        child = await world.submit(cluster, name="serve", after={parent: "succeeded"}, **simulated(0.05))
        assert await world.state(child) == State.BLOCKED
        await world.reaches(child, State.SUCCEEDED)
    parent_end = (await world.get(parent)).finished_at
    child_start = (await world.get(child)).started_at
    assert parent_end is not None
    assert child_start is not None
    assert child_start >= parent_end


async def test_a_child_may_start_as_soon_as_its_parent_runs(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        parent = await world.submit(cluster, **simulated())
        child = await world.submit(cluster, after={parent: "running"}, **simulated(0.05))
        await world.reaches(child, State.SUCCEEDED)
        assert await world.state(parent) == State.RUNNING


async def test_a_failed_parent_ends_the_subtree_or_holds_it(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        parent = await world.submit(cluster, name="train", **simulated(0.2, exit_code="3"))
        child = await world.submit(cluster, after={parent: "succeeded"}, **simulated())
        grandchild = await world.submit(cluster, after={child: "succeeded"}, **simulated())
        held = await world.submit(cluster, after={parent: "succeeded"}, on_failure="hold", **simulated())
        await world.reaches(parent, State.FAILED)
        ended = await world.reaches(child, State.CANCELLED)
        await world.reaches(grandchild, State.CANCELLED)
    assert ended.reason_code == "dependency_failed"
    assert "train" in (ended.reason or "")
    assert await world.state(held) == State.BLOCKED


async def test_a_failure_is_retried_after_a_back_off_with_its_reason(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        job = await world.submit(
            cluster, restart_policy="on-failure", max_retries=2, **simulated(0.02, exit_code="3")
        )
        waiting = await eventually(lambda: _retrying(world, job))
    assert waiting.retries_used == 1
    assert "code 3" in (waiting.reason or "")
    assert waiting.not_before is not None


async def test_a_job_that_runs_too_long_is_ended_and_failed(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        job = await world.submit(cluster, max_runtime_seconds=1, **simulated())
        failed = await world.reaches(job, State.FAILED)
    assert failed.reason_code == "max_runtime"
    await world.check_invariants()


async def test_a_clock_that_is_set_forward_ends_nothing_before_its_time(world: World) -> None:
    world.clock = clock = ClockThatIsSet()
    cluster = await world.cluster()
    async with world.loops():
        long = await world.submit(cluster, max_runtime_seconds=600, **simulated())
        await world.reaches(long, State.RUNNING)
        clock.error = timedelta(hours=1)
        # Until this one reaches its limit, every live attempt is observed again.
        short = await world.submit(cluster, max_runtime_seconds=1, **simulated())
        assert (await world.reaches(short, State.FAILED)).reason_code == "max_runtime"
        await world.reaches(long, State.RUNNING)


async def test_a_failed_launch_shows_the_message_of_the_engine(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        job = await world.submit(cluster, **simulated(fail_start="the disk is on fire"))
        failed = await world.reaches(job, State.FAILED)
    assert "the disk is on fire" in (failed.reason or "")
    await world.check_invariants()


async def test_a_victim_that_is_stopped_during_its_preemption_is_not_queued_again(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        victim = await world.submit(
            cluster, priority=100, grace_period_seconds=2, **simulated(ignore_term="true")
        )
        await world.reaches(victim, State.RUNNING)
        await world.submit(cluster, priority=900, **simulated())
        await world.reaches(victim, State.STOPPING)
        await world.stop(victim, StopReason.CANCELLED)
        await world.reaches(victim, State.CANCELLED)
    await world.check_invariants()


async def test_min_runtime_protects_a_fresh_start(world: World) -> None:
    cluster = await world.cluster(cpu=1000)
    async with world.loops():
        young = await world.submit(cluster, priority=100, min_runtime_seconds=600, **simulated())
        await world.reaches(young, State.RUNNING)
        high = await world.submit(cluster, priority=900, **simulated())
        await eventually(lambda: _has_reason(world, high, "insufficient_cpu"))
        assert await world.state(young) == State.RUNNING


async def _counts(world: World, ids: list[int], **expected: int) -> bool:
    counts = await world.states(ids)
    assert counts == expected, counts
    return True


async def _has_reason(world: World, deployment_id: int, code: str) -> bool:
    deployment = await world.get(deployment_id)
    assert deployment.reason_code == code, (deployment.reason_code, deployment.reason)
    return True


async def _retrying(world: World, deployment_id: int) -> Deployment | None:
    deployment = await world.get(deployment_id)
    return deployment if deployment.state == "QUEUED" and deployment.retries_used else None
