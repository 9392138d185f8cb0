"""Moves of running work that let more pending deployments start, and work that must not move."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.defragmentation.consolidation import Consolidation, consolidate
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import is_installed, solver_names
from hypervisor.scheduling.snapshots.snapshot import Shape
from tests.support.properties import checked
from tests.support.scheduling import (
    NOW,
    Node,
    Pending,
    Running,
    World,
    admits,
    commit,
    cpu,
    free_on,
    gpu,
    take,
)
from tests.unit.scheduling.test_pass_optimizer import tight_world

POLICY = Policy()
STEPS = 3_000
NODES = (Node(1, cpu=10_000, ram=65_536, gpus=2), Node(2, cpu=10_000, ram=65_536, gpus=2))


def rested(seed: int) -> World:
    """A world in a steady state, possibly with pending deployments."""
    world = tight_world(seed)
    world = replace(
        world,
        running=tuple(run for run in world.running if not run.releasing),
        pending=tuple(replace(item, replicas=1, created_at=NOW) for item in world.pending),
    )
    return commit(world, plan(world.snapshot(), replace(POLICY, preemption=False)))


rested_worlds = st.builds(rested, st.integers(0, 10**9))
policies = st.sampled_from([replace(POLICY, solver=name) for name in solver_names() if is_installed(name)])


def moved(world: World, found: Consolidation) -> World:
    """The world after all moves and placements."""
    target = {move.deployment_id: move for move in found.moves}
    running = tuple(
        run
        if run.id not in target
        else replace(run, node_id=target[run.id].to_node, devices=target[run.id].gpu_indices)
        for run in world.running
    )
    return commit(replace(world, running=running), Plan(placements=found.placements))


@given(rested_worlds, policies)
@checked(60)
def test_everything_fits_and_stays_at_rest_after_the_moves(world: World, policy: Policy) -> None:
    found = consolidate(world.snapshot(), policy, STEPS)
    after, nodes = moved(world, found), {node.id: node for node in world.nodes}
    waiting = {item.id: item for item in world.pending}
    for node in world.nodes:
        free_cpu, free_ram, free_gpu = free_on(after, node)
        assert min(free_cpu, free_ram, *free_gpu, 0) == 0
    for one in found.placements:
        assert admits(nodes[one.node_id], waiting[one.deployment_id].shape)
    assert bool(found.moves) <= bool(found.placements)
    if found.placements:
        again = plan(after.snapshot(), policy)
        assert (again.placements, again.evictions) == ((), ())


@given(rested_worlds, policies)
@checked(60)
def test_only_work_that_may_be_evicted_is_moved(world: World, policy: Policy) -> None:
    running = {run.id: run for run in world.running}
    for move in consolidate(world.snapshot(), policy, STEPS).moves:
        run = running[move.deployment_id]
        assert run.preemptible
        assert run.protected_until <= NOW
        assert (run.node_id, run.devices) != (move.to_node, move.gpu_indices)
        assert move.from_node == run.node_id


def test_one_move_makes_room() -> None:
    found = consolidate(_divided().snapshot(), POLICY, STEPS)
    (move,) = found.moves
    assert move.deployment_id in (2, 3)
    assert [(one.deployment_id, one.node_id) for one in found.placements] == [(9, move.from_node)]


def test_moves_come_in_an_order_in_which_they_can_be_made() -> None:
    """Each move is tried in the world after the moves before it."""
    for seed in range(60):
        world = rested(seed)
        found = consolidate(world.snapshot(), POLICY, STEPS)
        nodes = {node.id: node for node in world.nodes}
        for move in found.moves[: found.in_turn]:
            run = next(one for one in world.running if one.id == move.deployment_id)
            room = free_on(world, nodes[move.to_node], without=[run.id])
            left_cpu, left_ram, left_gpu = take(room, run.shape, move.gpu_indices)
            assert min(left_cpu, left_ram, *left_gpu, 0) == 0
            world = moved(world, Consolidation(moves=(move,)))


def test_moves_that_exchange_nodes_are_counted_separately() -> None:
    """6 of 10 and 5 of 9 cores are in use; 5 more fit only beside the 5, on the node of 10."""
    world = World(
        (replace(NODES[0], cpu=10_000), replace(NODES[1], cpu=9_000)),
        running=(_run(1, 1, 6), _run(2, 2, 5)),
        pending=(Pending(9, cpu(5), 500, created_at=NOW),),
    )
    found = consolidate(world.snapshot(), POLICY, STEPS)
    assert (len(found.moves), found.in_turn, found.placements[0].node_id) == (2, 0, 1)


def test_gpu_work_is_moved_too() -> None:
    """Half a GPU in use on each node leaves no two whole ones together; one of the halves moves."""
    half = gpu(0.5)
    world = World(
        NODES,
        running=(Running(1, 1, half, (0,), 500), Running(2, 2, half, (1,), 500)),
        pending=(Pending(9, gpu(2), 500, created_at=NOW),),
    )
    found = consolidate(world.snapshot(), POLICY, STEPS)
    (move,) = found.moves
    assert (move.from_node, move.to_node) in {(1, 2), (2, 1)}
    assert move.gpu_indices == ((1,) if move.to_node == 2 else (0,))
    assert found.placements[0].gpu_indices == (0, 1)


def test_node_limits_of_running_work_are_respected() -> None:
    """Neither half may go to the other node, so nothing is proposed."""
    half = gpu(0.5)
    world = World(
        (replace(NODES[0], model="A"), replace(NODES[1], model="B")),
        running=(Running(1, 1, half, (0,), 500), Running(2, 2, half, (1,), 500)),
        pending=(Pending(9, gpu(2), 500, created_at=NOW),),
    )
    limits = {number: Shape(1000, 1024, 500, gpu_models=(model,)) for number, model in ((1, "A"), (2, "B"))}
    assert consolidate(world.snapshot(), POLICY, STEPS, limits) == Consolidation()


def test_protected_work_is_not_moved() -> None:
    first, second, third, fourth = _divided().running
    kept = (replace(third, protected_until=math.inf), replace(fourth, preemptible=False))
    world = replace(_divided(), running=(first, second, *kept))
    assert [move.deployment_id for move in consolidate(world.snapshot(), POLICY, STEPS).moves] == [2]


def test_a_long_waiting_deployment_is_not_overtaken() -> None:
    """The head reserves capacity on a node, which any move for the 5 cores behind it would take."""
    world = _divided()
    world = replace(world, pending=(Pending(8, cpu(9), 500, created_at=0.0), *world.pending))
    assert (
        len(consolidate(world.snapshot(), replace(POLICY, overtake_limit_seconds=2 * NOW), STEPS).moves) == 1
    )
    assert (
        consolidate(world.snapshot(), replace(POLICY, overtake_limit_seconds=NOW / 2), STEPS)
        == Consolidation()
    )


def _divided() -> World:
    """5 + 2 and 3 + 4 cores run on nodes of 10; 5 more fit once the 2 or the 3 are on the other node."""
    return World(
        NODES,
        running=(_run(1, 1, 5), _run(2, 1, 2), _run(3, 2, 3), _run(4, 2, 4)),
        pending=(Pending(9, cpu(5), 500, created_at=NOW),),
    )


def _run(number: int, node: int, cores: int, **more: Any) -> Running:
    return replace(Running(number, node, cpu(cores), (), 500), **more)
