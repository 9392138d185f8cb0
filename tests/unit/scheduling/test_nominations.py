"""Capacity that was freed for a nominated deployment stays reserved for it."""

from __future__ import annotations

from dataclasses import replace

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.snapshots.snapshot import Nomination
from tests.support.scheduling import Pending, Running, World, after_victims_end, commit, gpu, gpu_node

VICTIM = Running(1, 1, gpu(1), (0,), 100)
PREEMPTOR = Pending(10, gpu(1), priority=750, created_at=5)
FULL = World((gpu_node(1, gpus=1),), (VICTIM,), (PREEMPTOR,))


def test_while_the_victim_stops_nothing_more_is_evicted() -> None:
    stopping = commit(FULL, plan(FULL.snapshot()))
    other = Running(2, 2, gpu(1), (0,), 100)
    wider = replace(
        stopping, nodes=(*stopping.nodes, gpu_node(2, gpus=1)), running=(*stopping.running, other)
    )
    decided = plan(wider.snapshot())
    assert decided.evictions == ()
    assert decided.nominations == stopping.nominations
    assert [item.reason.code for item in decided.unplaced] == [ReasonCode.WAITING_FOR_VICTIMS]


def test_after_the_victims_end_the_preemptor_starts_before_the_victim() -> None:
    freed = after_victims_end(commit(FULL, plan(FULL.snapshot())))
    decided = plan(freed.snapshot())
    assert [(item.deployment_id, item.gpu_indices) for item in decided.placements] == [(10, (0,))]
    assert [item.deployment_id for item in decided.unplaced] == [VICTIM.id]


def test_a_lower_ranked_deployment_cannot_take_the_freed_capacity() -> None:
    """It has the same priority but is younger, and would fit now."""
    world = World(
        (gpu_node(1, gpus=2),),
        (Running(1, 1, gpu(1), (0,), 100, releasing=True),),
        (Pending(10, gpu(2), priority=750), Pending(11, gpu(1), priority=750, created_at=9)),
        (Nomination(10, 1, (0, 1)),),
    )
    decided = plan(world.snapshot())
    assert decided.placements == ()
    reasons = {item.deployment_id: item.reason for item in decided.unplaced}
    assert reasons[11].code is ReasonCode.RESERVED_FOR_ANOTHER
    assert "deployment 10" in reasons[11].sentence


def test_a_higher_ranked_deployment_may_override_it() -> None:
    world = World(
        (gpu_node(1, gpus=1),),
        (),
        (PREEMPTOR, Pending(11, gpu(1), priority=1000)),
        (Nomination(10, 1, (0,)),),
    )
    decided = plan(world.snapshot())
    assert [item.deployment_id for item in decided.placements] == [11]
    assert decided.nominations == ()


def test_a_higher_ranked_deployment_overrides_only_without_another_choice() -> None:
    world = World(
        (gpu_node(1, gpus=1), gpu_node(2, gpus=1)),
        (Running(1, 1, gpu(1), (0,), 100, releasing=True),),
        (PREEMPTOR, Pending(11, gpu(1), priority=1000)),
        (Nomination(10, 1, (0,)),),
    )
    decided = plan(world.snapshot())
    assert [(item.deployment_id, item.node_id) for item in decided.placements] == [(11, 2)]
    assert [held.deployment_id for held in decided.nominations] == [10]


def test_it_starts_elsewhere_if_something_became_free_there() -> None:
    stopping = commit(FULL, plan(FULL.snapshot()))
    decided = plan(replace(stopping, nodes=(*stopping.nodes, gpu_node(2, gpus=1))).snapshot())
    assert [(item.deployment_id, item.node_id) for item in decided.placements] == [(10, 2)]
    assert decided.nominations == ()


def test_a_nomination_that_cannot_be_met_is_replaced() -> None:
    """Its node was cordoned; another node can be made free."""
    world = World(
        (gpu_node(1, gpus=1, schedulable=False), gpu_node(2, gpus=1)),
        (Running(2, 2, gpu(1), (0,), 100),),
        (PREEMPTOR,),
        (Nomination(10, 1, (0,)),),
    )
    decided = plan(world.snapshot())
    assert [held.node_id for held in decided.nominations] == [2]
    assert [eviction.allocation_id for eviction in decided.evictions] == [2]


def test_the_nomination_of_a_deployment_that_no_longer_waits_is_dropped() -> None:
    world = World((gpu_node(1, gpus=1),), pending=(PREEMPTOR,), nominations=(Nomination(77, 1, (0,)),))
    decided = plan(world.snapshot())
    assert [item.deployment_id for item in decided.placements] == [10]
    assert decided.nominations == ()


def test_releasing_capacity_is_preferred_to_an_eviction() -> None:
    running = (
        Running(1, 1, gpu(1), (0,), 100, releasing=True),
        Running(2, 2, gpu(1), (0,), 100),
    )
    decided = plan(World((gpu_node(1, gpus=1), gpu_node(2, gpus=1)), running, (PREEMPTOR,)).snapshot())
    assert decided.evictions == ()
    assert [held.node_id for held in decided.nominations] == [1]
