"""Constraints of the database that prevent overcommitment, independent of the code above."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from hypervisor.store.tables import Allocation, Attempt, Deployment, GpuClaim, Node, NodeGpu
from tests.support.world import World, new_world, simulated


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with new_world(database_url, tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("column", ["used_cpu_milli", "used_ram_mib"])
async def test_a_node_never_holds_more_than_it_has(world: World, column: str) -> None:
    await world.cluster(cpu=1000, ram=1000)
    with pytest.raises(IntegrityError):
        async with world.database.write() as session:
            await session.execute(update(Node).values({column: 1001}))


async def test_a_device_never_carries_more_than_a_thousand_milli(world: World) -> None:
    await world.cluster(gpus=1)
    with pytest.raises(IntegrityError):
        async with world.database.write() as session:
            await session.execute(update(NodeGpu).values(used_milli=1001))


async def test_a_whole_device_is_claimed_once(world: World) -> None:
    cluster = await world.cluster(gpus=1)
    ids = await world.submit_many(cluster, [simulated(), simulated()])
    await _claim(world, ids[0], 1000)
    with pytest.raises(IntegrityError):
        await _claim(world, ids[1], 1000)


async def test_a_device_that_does_not_exist_cannot_be_claimed(world: World) -> None:
    cluster = await world.cluster(gpus=1)
    job = await world.submit(cluster, **simulated())
    with pytest.raises(IntegrityError):
        await _claim(world, job, 500, index=1)


async def test_a_deployment_has_one_live_attempt(world: World) -> None:
    cluster = await world.cluster(gpus=2)
    job = await world.submit(cluster, **simulated())
    await _claim(world, job, 500, number=1)
    with pytest.raises(IntegrityError):
        await _claim(world, job, 500, number=2, index=1)


@pytest.mark.parametrize(
    "values", [{"state": "PAUSED"}, {"gpu_milli": 1500}, {"priority": 1001}, {"cpu_milli": -1}]
)
async def test_an_impossible_deployment_cannot_be_stored(world: World, values: dict[str, object]) -> None:
    await world.submit(await world.cluster(), **simulated())
    with pytest.raises(IntegrityError):
        async with world.database.write() as session:
            await session.execute(update(Deployment).values(values))


async def _claim(world: World, deployment_id: int, milli: int, *, index: int = 0, number: int = 1) -> None:
    """Insert an attempt with an allocation and a GPU claim directly into the tables."""
    async with world.database.write() as session:
        node = (await session.scalars(select(Node))).one()
        deployment = await session.get_one(Deployment, deployment_id)
        attempt = Attempt(
            deployment_id=deployment_id,
            organization_id=deployment.organization_id,
            cluster_id=deployment.cluster_id,
            node_id=node.id,
            node_name=node.name,
            number=number,
            runtime="simulated",
            instance=f"hv-{world.install}-{deployment_id}-{number}-0",
            created_at=world.clock.now(),
        )
        session.add(attempt)
        await session.flush()
        session.add(
            Allocation(
                attempt_id=attempt.id,
                deployment_id=deployment_id,
                cluster_id=deployment.cluster_id,
                node_id=node.id,
                cpu_milli=0,
                ram_mib=0,
                gpu_milli=milli,
            )
        )
        await session.flush()
        session.add(GpuClaim(attempt_id=attempt.id, gpu_index=index, node_id=node.id, milli=milli))
