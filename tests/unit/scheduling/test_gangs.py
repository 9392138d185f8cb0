"""Gangs case by case: placement of replicas, victims, eviction of gangs, reasons."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hypervisor.scheduling.capacity.replicas import assign_replicas
from hypervisor.scheduling.explanation.infeasibility import explain_request
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan, ReasonCode
from hypervisor.scheduling.policy import Policy
from tests.support.scheduling import (
    Node,
    Pending,
    Running,
    World,
    after_victims_end,
    commit,
    cpu,
    gpu,
    gpu_node,
)


def nodes_of(decided: Plan) -> list[int]:
    return [placement.node_id for placement in decided.placements]


def reason_of(world: World, deployment_id: int) -> tuple[ReasonCode, str, str]:
    unplaced = {item.deployment_id: item.reason for item in plan(world.snapshot()).unplaced}
    reason = unplaced[deployment_id]
    return reason.code, reason.sentence, reason.suggestion


@pytest.mark.parametrize(
    ("counts", "losses", "replicas", "spread", "expected"),
    [
        ([4, 2, 2], [9, 1, 1], 4, False, [0, 0, 0, 0]),  # one node is preferred to two with better scores
        ([4, 4, 4], [3, 1, 2], 4, False, [1, 1, 1, 1]),  # of equal counts the best score
        ([4, 1, 3], [1, 5, 9], 5, False, [0, 0, 0, 0, 1]),  # the rest goes to the node with the best score
        ([1, 2, 3], [0, 0, 0], 7, False, None),
        ([4, 4, 4], [3, 1, 2], 2, True, [1, 2]),
        ([4, 1, 1], [0, 0, 0], 5, True, [0, 0, 0, 1, 2]),  # no more nodes: another round
        ([2, 0, 1], [0, 0, 0], 3, True, [0, 0, 2]),
    ],
)
def test_layout(
    counts: list[int], losses: list[int], replicas: int, spread: bool, expected: list[int] | None
) -> None:
    assert assign_replicas(np.array(counts), np.array(losses), replicas, spread) == expected


@pytest.mark.parametrize("policy", ["fgd", "bestfit", "spread"])
def test_replicas_are_packed_unless_they_are_to_spread(policy: str) -> None:
    world = World(
        tuple(gpu_node(number, gpus=4) for number in (1, 2, 3)), (), (Pending(10, gpu(1), 500, replicas=3),)
    )
    chosen = Policy(placement=policy)
    assert len(set(nodes_of(plan(world.snapshot(), chosen)))) == 1
    apart = replace(world, pending=(replace(world.pending[0], spread=True),))
    assert sorted(nodes_of(plan(apart.snapshot(), chosen))) == [1, 2, 3]


def test_fractional_replicas_share_devices_up_to_their_capacity() -> None:
    world = World((gpu_node(1, gpus=1),), (), (Pending(10, gpu(0.3), 500, replicas=3),))
    decided = plan(world.snapshot())
    assert [placement.gpu_indices for placement in decided.placements] == [(0,), (0,), (0,)]
    more = replace(world, pending=(replace(world.pending[0], replicas=4),))
    assert plan(more.snapshot()).placements == ()


def test_a_gang_that_does_not_fit_leaves_capacity_to_later_deployments() -> None:
    world = World(
        (gpu_node(1, gpus=2), gpu_node(2, gpus=2)),
        (Running(1, 1, gpu(2), (0, 1), 900),),
        (Pending(10, gpu(1), 500, replicas=3), Pending(11, gpu(1), 400)),
    )
    assert [placement.deployment_id for placement in plan(world.snapshot()).placements] == [11]


def test_the_least_important_work_of_all_nodes_is_evicted_for_a_gang() -> None:
    running = tuple(
        Running(number, number, gpu(1), (0,), priority, started_at=float(100 * number))
        for number, priority in enumerate((300, 100, 200, 100), start=1)
    )
    nodes = tuple(gpu_node(number, gpus=1) for number in range(1, 5))
    world = World(nodes, running, (Pending(10, gpu(1), 750, replicas=2),))
    decided = plan(world.snapshot())
    assert {eviction.deployment_id for eviction in decided.evictions} == {2, 4}
    assert sorted(nomination.node_id for nomination in decided.nominations) == [2, 4]
    assert sorted(nomination.replica for nomination in decided.nominations) == [0, 1]
    freed = after_victims_end(commit(world, decided), requeue=False)
    assert sorted(nodes_of(plan(freed.snapshot()))) == [2, 4]


def test_no_eviction_if_the_gang_would_still_not_fit() -> None:
    running = (Running(1, 1, gpu(1), (0,), 100), Running(2, 2, gpu(1), (0,), 900))
    world = World(
        (gpu_node(1, gpus=1), gpu_node(2, gpus=1)), running, (Pending(10, gpu(1), 750, replicas=2),)
    )
    decided = plan(world.snapshot())
    assert decided.evictions == ()
    assert decided.nominations == ()


def test_gangs_respect_frozen_pairs() -> None:
    running = tuple(Running(number, number, gpu(1), (0,), 100) for number in (1, 2, 3))
    nodes = tuple(gpu_node(number, gpus=1) for number in (1, 2, 3))
    snapshot = World(nodes, running, (Pending(10, gpu(1), 750, replicas=2),)).snapshot()
    free = plan(replace(snapshot, frozen_pairs=((10, 2),)))
    assert {eviction.deployment_id for eviction in free.evictions} == {1, 3}
    assert plan(replace(snapshot, frozen_pairs=((10, 2), (10, 3)))).evictions == ()


def gang(number: int, node_ids: tuple[int, ...], priority: int = 100, **more: Any) -> tuple[Running, ...]:
    return tuple(
        Running(number * 10 + at, node_id, gpu(1), (0,), priority, gang=number, **more)
        for at, node_id in enumerate(node_ids)
    )


def test_a_gang_is_evicted_with_all_its_replicas() -> None:
    world = World(
        tuple(gpu_node(number, gpus=1) for number in (1, 2, 3)),
        gang(1, (1, 2, 3)),
        (Pending(10, gpu(1), 750),),
    )
    decided = plan(world.snapshot())
    assert Counter(eviction.deployment_id for eviction in decided.evictions) == {1: 3}
    assert sum(eviction.lost_work for eviction in decided.evictions) == 3 * 1000.0
    assert len(decided.nominations) == 1


def test_a_single_deployment_is_evicted_before_a_gang_that_would_lose_more() -> None:
    alone = Running(5, 3, gpu(1), (0,), 100, started_at=0.0)
    world = World(
        tuple(gpu_node(number, gpus=1) for number in (1, 2, 3)),
        (*gang(1, (1, 2), started_at=400.0), alone),
        (Pending(10, gpu(1), 750),),
    )
    assert [eviction.deployment_id for eviction in plan(world.snapshot()).evictions] == [5]


def test_a_gang_with_one_protected_replica_is_safe() -> None:
    first, second = gang(1, (1, 2))
    world = World(
        (gpu_node(1, gpus=1), gpu_node(2, gpus=1)),
        (first, replace(second, protected_until=2_000.0)),
        (Pending(10, gpu(1), 750),),
    )
    assert plan(world.snapshot()).evictions == ()


def test_the_reason_has_the_fitting_replicas_and_the_shortfall_of_the_next() -> None:
    world = World(
        (gpu_node(1, gpus=2), gpu_node(2, gpus=2)),
        (Running(1, 1, gpu(2), (0, 1), 900),),
        (Pending(10, gpu(1), 500, replicas=4),),
    )
    code, sentence, suggestion = reason_of(world, 10)
    assert code is ReasonCode.GANG_INCOMPLETE
    assert sentence.startswith("fits 2 of 4 replicas; the next one needs 1 GPU, 1 GB RAM and 1 CPU core")
    assert sentence.endswith("the nearest node node-1 has 0 GPU free (1 short)")
    assert suggestion.endswith("or request at most 2 replicas")


def test_a_gang_larger_than_the_empty_cluster_is_refused() -> None:
    world = World((Node(1, 4000, 65_536, 0), Node(2, 3000, 65_536, 0)))
    snapshot = world.snapshot()
    assert explain_request(snapshot, cpu(1), replicas=7) is None
    refused = explain_request(snapshot, cpu(1), replicas=8)
    assert refused is not None
    assert refused.code is ReasonCode.GANG_LARGER_THAN_CLUSTER
    assert "only 7 of them" in refused.sentence


SAME = Pending(11, gpu(1), priority=500, created_at=1.0)
"""A deployment behind a blocked gang of the same priority, which could not evict it."""


def blocked_gang(replicas: int, **more: Any) -> World:
    """Two nodes of two devices each, one device free on both; the gang needs `replicas` devices."""
    running = tuple(Running(number, number, gpu(1), (0,), 500, **more) for number in (1, 2))
    nodes = (gpu_node(1, gpus=2), gpu_node(2, gpus=2))
    return World(nodes, running, (Pending(10, gpu(1), 500, replicas=replicas), SAME))


def test_capacity_for_a_gang_accumulates() -> None:
    world = blocked_gang(3)
    assert plan(world.snapshot()).placements == ()
    freed = replace(world, running=world.running[:1])
    assert {placement.deployment_id for placement in plan(freed.snapshot()).placements} == {10}


def test_capacity_that_a_gang_does_not_need_is_not_reserved() -> None:
    world = blocked_gang(3)
    wider = replace(world, nodes=(*world.nodes, Node(3, 64_000, 65_536, 1, schedulable=True)))
    room = replace(wider, pending=(replace(world.pending[0], replicas=5), replace(SAME, shape=cpu(1))))
    assert [placement.deployment_id for placement in plan(room.snapshot()).placements] == [11]


def test_backfill_that_ends_before_the_gang_can_start() -> None:
    snapshot = blocked_gang(3).snapshot()
    ends = replace(snapshot.allocations, ends_at=np.array([5_000.0, 9_000.0]))
    for runtime, expected in ((3_000.0, [11]), (5_000.0, [])):
        limits = np.array([np.inf, runtime])
        short = replace(snapshot, allocations=ends, pending=replace(snapshot.pending, max_runtime=limits))
        assert [placement.deployment_id for placement in plan(short).placements] == expected


def test_the_reason_of_the_gang_has_its_reserved_nodes_and_the_time() -> None:
    snapshot = blocked_gang(4).snapshot()
    ends = replace(snapshot.allocations, ends_at=np.array([5_000.0, 9_000.0]))
    unplaced = {
        item.deployment_id: item.reason for item in plan(replace(snapshot, allocations=ends)).unplaced
    }
    assert "node-1 and node-2 are reserved for it" in unplaced[10].sentence
