"""The end of a parent and the placement of its child at the same time, on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hypervisor.control.reconciler.apply_observations import Ended, apply_observations
from hypervisor.control.scheduler.commit import commit_plan
from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.state import commands
from hypervisor.identity.principal import Principal
from hypervisor.infra.randomness import system_random
from hypervisor.kernel.observation import Observation, ObservedState
from hypervisor.lifecycle.commands import Command
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.plan import plan
from hypervisor.store.database import WriteSession
from hypervisor.store.leases import Fence, acquire
from hypervisor.store.tables import Deployment
from tests.support.wait import PROMPT, eventually
from tests.support.world import World, new_world, simulated

Work = Callable[[WriteSession], Awaitable[Any]]


@pytest.mark.parametrize("winner", ["stop", "placement"])
async def test_a_stop_and_a_placement_wait_for_each_other(
    postgresql_url: str, tmp_path: Path, winner: str
) -> None:
    async with new_world(postgresql_url, tmp_path) as world:
        cluster, parent, child = await _queued_child(world)
        assert await world.state(child) == State.QUEUED
        works = {"stop": _stop(world, parent), "placement": await _placement(world, cluster)}
        first = works.pop(winner)
        await _one_waits_for_the_other(world, first, *works.values())
        states = [await world.state(parent), await world.state(child)]
        assert states == [State.STOPPING, State.BLOCKED if winner == "stop" else State.STARTING]
        await world.check_invariants()


async def test_a_placement_waits_for_a_transaction_that_has_changed_the_parent(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Also before that transaction has reached the child: the history then has the change first."""
    async with new_world(postgresql_url, tmp_path) as world:
        cluster, parent, child = await _queued_child(world)
        placement = await _placement(world, cluster)
        await _one_waits_for_the_other(world, lambda session: repository.lock(session, parent), placement)
        assert await world.state(child) == State.STARTING


async def test_a_return_to_the_queue_waits_for_a_transaction_that_has_changed_the_parent(
    postgresql_url: str, tmp_path: Path
) -> None:
    """Otherwise the child could be queued by the old state, or stay blocked by it for ever."""
    async with new_world(postgresql_url, tmp_path) as world:
        cluster = await world.cluster()
        async with world.loops():
            parent = await world.submit(cluster, name="parent", **simulated())
            await world.reaches(parent, State.RUNNING)
            child = await world.submit(
                cluster, after={parent: "running"}, restart_policy="on-failure", max_retries=1, **simulated()
            )
            await world.reaches(child, State.RUNNING)
        (attempt,) = await world.attempts(child)
        failed = Observation(ObservedState.EXITED, exit_code=1, finished_at=world.clock.now())
        ended = [Ended(attempt.id, child, failed)]
        await _one_waits_for_the_other(
            world,
            _stop(world, parent),
            lambda session: apply_observations(session, ended, world.clock.now(), system_random()),
        )
        assert await world.state(child) == State.BLOCKED


async def _queued_child(world: World) -> tuple[int, int, int]:
    """The ids of a cluster, of a running parent, and of a queued child that needs it to run."""
    cluster = await world.cluster()
    async with world.loops():
        parent = await world.submit(cluster, name="parent", **simulated())
        await world.reaches(parent, State.RUNNING)
    return cluster, parent, await world.submit(cluster, after={parent: "running"}, **simulated())


def _stop(world: World, deployment_id: int) -> Work:
    access = DeploymentAccess(
        Deployment(id=deployment_id, organization_id=1), Principal(1, "ada", False, "-", {})
    )
    return lambda session: commands.apply_command(session, access, Command.STOP, now=world.clock.now())


async def _placement(world: World, cluster: int) -> Work:
    """The commit of a plan that was made while the parent ran."""
    now = world.clock.now()
    async with world.database.write() as session:
        epoch = await acquire(session, "test", "test", now, timedelta(seconds=60))
    async with world.database.read() as reader:
        view = await load_cluster(reader, cluster, now)
    assert view is not None
    assert epoch is not None
    result, fence = plan(view.snapshot, view.policy), Fence("test", epoch)
    assert result.placements
    return lambda session: commit_plan(session, view, result, fence=fence, install=world.install, now=now)


async def _one_waits_for_the_other(world: World, first: Work, second: Work) -> None:
    async with world.database.write() as session:
        await first(session)
        await session.flush()
        other = asyncio.create_task(world.database.transact(second))

        async def waits() -> bool:
            async with world.database.read() as reader:
                query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                blocked = await reader.scalar(text(f"{query} AND datname = current_database()"))
            assert not other.done(), "it did not wait"
            return bool(blocked)

        await eventually(waits, what="the second waits for the first")
    await asyncio.wait_for(other, PROMPT)
