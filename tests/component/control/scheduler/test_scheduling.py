"""The loops on real databases: what is placed, what waits, what must yield, what comes back."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypervisor.lifecycle.conclude import StopReason
from hypervisor.lifecycle.states import State
from hypervisor.store.tables import Deployment
from tests.support.clock import ClockThatIsSet
from tests.support.wait import eventually
from tests.support.world import World, simulated


async def test_a_job_runs_to_its_end_and_frees_what_it_held(world: World) -> None:
    cluster = await world.cluster(gpus=1)
    async with world.loops():
        job = await world.submit(cluster, **simulated(0.05), gpu_milli=1000)
        done = await world.reaches(job, State.SUCCEEDED)
    assert done.exit_code == 0
    await world.check_invariants()
    assert [event.to_state for event in await world.events(job)] == [
        "QUEUED",
        "STARTING",
        "RUNNING",
        "SUCCEEDED",
    ]
    (attempt,) = await world.attempts(job)
    assert (attempt.gpu_indices, attempt.outcome, attempt.exit_code) == ([0], "succeeded", 0)


async def test_twenty_at_once_for_the_room_of_ten(world: World) -> None:
    cluster = await world.cluster(cpu=10_000, ram=10_240)
    async with world.loops():
        one_by_one = (world.submit(cluster, **simulated(), ram_mib=1024) for _ in range(20))
        ids = list(await asyncio.gather(*one_by_one))
        await eventually(lambda: _counts(world, ids, RUNNING=10, QUEUED=10))

        async def reasons_are_told() -> bool:
            waiting = [d for d in [await world.get(i) for i in ids] if d.state == "QUEUED"]
            assert all(d.reason_code == "insufficient_ram" for d in waiting), {d.reason_code for d in waiting}
            assert all((d.reason_data or {})["shortfall"]["ram_gb"] == 1 for d in waiting)
            return True

        await eventually(reasons_are_told)
        await world.check_invariants()


async def test_a_higher_priority_takes_exactly_the_victims_it_needs_and_they_come_back(world: World) -> None:
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
        own = next(e for e in await world.events(victim) if e.type == "deployment.preempted")
        assert own.data is not None
        assert own.data["preemptor"]["id"] == high


async def test_freed_capacity_is_not_stolen_while_a_victim_takes_its_time(world: World) -> None:
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


async def test_a_failure_is_retried_after_a_back_off_and_says_so(world: World) -> None:
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
        # While this one uses up its second, everything that runs is looked at again.
        short = await world.submit(cluster, max_runtime_seconds=1, **simulated())
        assert (await world.reaches(short, State.FAILED)).reason_code == "max_runtime"
        await world.reaches(long, State.RUNNING)


async def test_what_cannot_be_launched_fails_in_the_engines_words(world: World) -> None:
    cluster = await world.cluster()
    async with world.loops():
        job = await world.submit(cluster, **simulated(fail_start="the disk is on fire"))
        failed = await world.reaches(job, State.FAILED)
    assert "the disk is on fire" in (failed.reason or "")
    await world.check_invariants()


async def test_a_stop_during_a_preemption_keeps_the_victim_from_coming_back(world: World) -> None:
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
    seen = await world.get(deployment_id)
    assert seen.reason_code == code, (seen.reason_code, seen.reason)
    return True


async def _retrying(world: World, deployment_id: int) -> Deployment | None:
    seen = await world.get(deployment_id)
    return seen if seen.state == "QUEUED" and seen.retries_used else None
