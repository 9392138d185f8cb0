"""Backfill behind the blocked head of the queue, without delaying it."""

from __future__ import annotations

from dataclasses import replace

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.policy import Policy
from tests.support.scheduling import Node, Pending, Running, World, cpu, gpu, gpu_node

HEAD = Pending(1, gpu(4), priority=500)
"""Needs all four devices of a node; one is used by work that it may not evict."""
BUSY = Running(50, 1, gpu(1), (0,), 500)


def started(*behind: Pending, policy: Policy | None = None, nodes: int = 1) -> set[int]:
    world = World(tuple(gpu_node(n + 1) for n in range(nodes)), (BUSY,), (HEAD, *behind))
    return {item.deployment_id for item in plan(world.snapshot(), policy).placements}


def test_equal_priority_may_not_take_what_the_head_needs() -> None:
    assert started(Pending(2, gpu(1), priority=500, created_at=1)) == set()


def test_backfill_beside_the_needs_of_the_head() -> None:
    assert started(Pending(2, cpu(8), priority=500, created_at=1)) == {2}


def test_no_backfill_with_cores_that_the_head_needs() -> None:
    assert started(Pending(2, cpu(63), priority=500, created_at=1)) == set()


def test_backfill_that_the_head_can_evict_at_once() -> None:
    assert started(Pending(2, gpu(1), priority=100, created_at=1)) == {2}


def test_no_backfill_that_the_head_could_not_evict() -> None:
    assert started(Pending(2, gpu(1), priority=100, preemptible=False)) == set()
    assert started(Pending(2, gpu(1), priority=100, protected=True)) == set()
    assert started(Pending(2, gpu(1), priority=100), policy=Policy(preemption=False)) == set()


def test_only_the_nearest_node_is_reserved() -> None:
    small = gpu_node(2, gpus=2)
    world = World((gpu_node(1), small), (BUSY,), (HEAD, Pending(2, gpu(1), priority=500, created_at=1)))
    decided = plan(world.snapshot())
    assert [(item.deployment_id, item.node_id) for item in decided.placements] == [(2, 2)]


def test_a_request_larger_than_every_node_reserves_nothing() -> None:
    world = World(
        (gpu_node(1),),
        (BUSY,),
        (Pending(1, gpu(8), priority=500), Pending(2, gpu(3), priority=500, created_at=1)),
    )
    assert [item.deployment_id for item in plan(world.snapshot()).placements] == [2]


def test_the_reason_names_the_head_that_blocks_it() -> None:
    world = World((gpu_node(1),), (BUSY,), (HEAD, Pending(2, gpu(1), priority=500, created_at=1)))
    reasons = {item.deployment_id: item.reason for item in plan(world.snapshot()).unplaced}
    assert reasons[2].code is ReasonCode.RESERVED_FOR_ANOTHER
    assert "deployment 1" in reasons[2].sentence


def test_preemption_past_the_head_does_not_depend_on_lost_work() -> None:
    """The head counts on device 1, where a younger victim runs; the older one is on the device beside it."""
    running = (
        Running(50, 1, gpu(0.3), (0,), 750),
        Running(51, 1, gpu(0.3), (0,), 500, started_at=900.0),
        Running(52, 1, gpu(0.7), (1,), 500, started_at=990.0),
    )
    behind = Pending(2, gpu(0.6), priority=750, created_at=1)
    world = World((gpu_node(1, gpus=2),), running, (Pending(1, gpu(2), priority=750), behind))
    now = world.snapshot()
    assert plan(now).evictions == plan(replace(now, now=1e6)).evictions == ()


def test_a_gang_at_the_head_closes_only_nodes_where_it_would_lose_capacity() -> None:
    """Its replicas count on one GPU of each node; on the second, the best fit, no core is to spare."""
    nodes = (Node(1, cpu=4000, ram=8192, gpus=1), Node(2, cpu=2000, ram=8192, gpus=1))
    running = (Running(50, 2, gpu(0.3, cpu=500), (0,), 500),)
    gang = Pending(1, gpu(1, cpu=1500), priority=500, replicas=2)
    behind = Pending(2, cpu(1), priority=500, created_at=1)
    decided = plan(World(nodes, running, (gang, behind)).snapshot(), Policy(placement="bestfit"))
    assert [(one.deployment_id, one.node_id) for one in decided.placements] == [(2, 1)]
