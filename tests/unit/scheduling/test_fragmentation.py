"""Fragmentation in hand-computed cases, and moves that really make room."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given, settings

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.defragmentation.fragmentation import fragmentation
from hypervisor.scheduling.defragmentation.moves import Opening, find_opening, target_for
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Nomination, Shape
from tests.support.scheduling import (
    LARGE_SHAPES,
    NOW,
    Pending,
    Running,
    World,
    gpu,
    gpu_node,
    worlds,
)

WHOLE, HALF, FOUR = gpu(1), gpu(0.5), gpu(4)
TYPICAL = Policy(target_workload=((WHOLE, 3.0), (HALF, 1.0)))


def run(id_: int, node_id: int, shape: Shape, *devices: int, started_at: float = 0.0) -> Running:
    return Running(id_, node_id, shape, devices, priority=500, started_at=started_at)


def after(world: World, opening: Opening) -> World:
    """The cluster after the moves."""
    targets = {move.deployment_id: move for move in opening.moves}
    return replace(
        world,
        running=tuple(
            replace(one, node_id=targets[one.id].to_node, devices=targets[one.id].gpu_indices)
            if one.id in targets
            else one
            for one in world.running
        ),
    )


def test_idle_halves_are_of_no_use_to_whole_requests() -> None:
    world = World(
        (gpu_node(1, 2), gpu_node(2, 2)), (run(1, 1, HALF, 0), run(2, 1, HALF, 1), run(3, 2, WHOLE, 0))
    )
    found = fragmentation(world.snapshot(), TYPICAL)
    assert [(one.fits_now, one.unusable_gpu_milli) for one in found.shapes] == [(1, 1000), (4, 0)]
    assert [one.idle_gpu_milli for one in found.nodes] == [1000, 1000]
    assert [one.expected_unusable for one in found.nodes] == [750.0, 0.0]
    assert found.nodes[1].free == Resources(63_000, 64_512, 1000)


def test_nominated_capacity_is_not_free() -> None:
    world = World((gpu_node(1, 1),), pending=(Pending(9, WHOLE, 500),), nominations=(Nomination(9, 1, (0,)),))
    assert [one.fits_now for one in fragmentation(world.snapshot(), TYPICAL).shapes] == [0, 0]


def test_the_work_that_loses_least_is_moved() -> None:
    world = World(
        (gpu_node(1, 4), gpu_node(2, 4)),
        (run(1, 1, WHOLE, 0, started_at=NOW - 10), run(2, 2, WHOLE, 1, started_at=NOW - 900)),
    )
    opening = find_opening(world.snapshot(), FOUR, {})
    assert opening is not None
    (move,) = opening.moves
    assert (opening.node_id, move.deployment_id, move.from_node, move.to_node) == (1, 1, 1, 2)
    assert move.lost_work == 10


def test_three_moves_at_most_and_only_of_work_that_allows_it() -> None:
    nodes = (gpu_node(1, 4), gpu_node(2, 8))
    three = tuple(run(id_, 1, WHOLE, id_ - 1) for id_ in (1, 2, 3))
    blocked = tuple(replace(run(10 + one, 2, WHOLE, one), preemptible=False) for one in range(5))
    world = World(nodes, (*three, *blocked))
    opening = find_opening(world.snapshot(), FOUR, {})
    assert opening is not None
    assert {move.deployment_id for move in opening.moves} == {1, 2, 3}
    for spoiled in (
        replace(three[0], preemptible=False),
        replace(three[0], protected_until=NOW + 1),
        replace(three[0], releasing=True),
    ):
        assert find_opening(World(nodes, (spoiled, *three[1:], *blocked)).snapshot(), FOUR, {}) is None
    four = (*three, run(4, 1, WHOLE, 3))
    assert find_opening(World(nodes, (*four, *blocked)).snapshot(), FOUR, {}) is None


def test_labels_and_models_of_what_moves_are_respected() -> None:
    nodes = (gpu_node(1, 4, model="A"), gpu_node(2, 2, model="B"))
    world = World(nodes, (run(1, 1, WHOLE, 0),))
    assert find_opening(world.snapshot(), FOUR, {}) is not None
    limited = {1: replace(WHOLE, gpu_models=("A",))}
    assert find_opening(world.snapshot(), FOUR, limited) is None
    assert target_for(world.snapshot(), 1, 2, limited) is None
    assert target_for(world.snapshot(), 1, 1, {}) is None
    found = target_for(world.snapshot(), 1, 2, {})
    assert found is not None
    assert (found.to_node, len(found.gpu_indices)) == (2, 1)


def test_where_it_fits_nothing_is_moved() -> None:
    assert find_opening(World((gpu_node(1, 4),)).snapshot(), FOUR, {}) == Opening(1, ())


@given(worlds(), LARGE_SHAPES)
@settings(max_examples=80, deadline=None)
def test_after_the_moves_of_an_opening_the_request_fits(world: World, shape: Shape) -> None:
    world = replace(world, pending=())
    opening = find_opening(world.snapshot(), shape, {})
    if opening is None:
        return
    moved = after(world, opening)
    _over_nothing(moved.running)
    submitted = replace(moved, pending=(Pending(999, shape, 500),))
    decided = plan(submitted.snapshot(), Policy(preemption=False))
    assert [one.deployment_id for one in decided.placements] == [999]
    assert len(opening.moves) <= 3


def _over_nothing(running: Iterable[Running]) -> None:
    used: dict[tuple[int, int], int] = {}
    for one in running:
        for device in one.devices:
            used[one.node_id, device] = used.get((one.node_id, device), 0) + one.shape.gpu_milli_per_device
    assert all(milli <= 1000 for milli in used.values())


@pytest.mark.parametrize("world", [World(()), World((gpu_node(1, 0),))])
def test_clusters_without_anything_have_no_opening(world: World) -> None:
    assert find_opening(world.snapshot(), FOUR, {}) is None
    assert fragmentation(world.snapshot(), Policy()).shapes == ()
