"""Nobody is evicted in vain when several preemptors of one pass meet on a node."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.passes.reprieve import REPRIEVED_LATE
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.snapshots.snapshot import Quota, Shape
from tests.support.properties import checked
from tests.support.scheduling import (
    Node,
    Pending,
    Running,
    World,
    commit,
    cpu,
    free_on,
    gang_worlds,
    take,
    victims_gone,
    worlds,
)
from tests.support.shared_clusters import Shared

SMALL, LARGE = 1, 2


def two_preemptors(**victim: object) -> World:
    """Room for ten cores, of which one is free. The first to come takes two, for which one small victim of
    the lowest priority must go; the next takes two as well, and only a large one of four can give that."""
    return World(
        (Node(1, cpu=10_000, ram=65_536, gpus=0),),
        (
            Running(SMALL, 1, cpu(1), (), 100, **victim),  # type: ignore[arg-type]
            Running(LARGE, 1, cpu(4), (), 200),
            Running(3, 1, cpu(4), (), 1000),
        ),
        (Pending(100, cpu(2), priority=750), Pending(101, cpu(2), priority=500)),
    )


def test_one_evicted_first_stays_when_a_later_eviction_makes_room_for_both():
    decided = plan(two_preemptors().snapshot())
    assert [one.deployment_id for one in decided.evictions] == [LARGE]
    assert {one.deployment_id for one in decided.nominations} == {100, 101}
    after = plan(victims_gone(commit(two_preemptors(), decided)).snapshot())
    assert {one.deployment_id for one in after.placements} == {100, 101}


def test_the_receipts_name_the_one_that_stays_as_spared():
    decided = plan(two_preemptors().snapshot())
    assert {
        preemptor: {one.deployment_id: one.why for one in all_}
        for preemptor, all_ in decided.reprieved.items()
    } == {101: {SMALL: REPRIEVED_LATE}}


def test_a_gang_of_which_one_replica_must_go_does_not_stay_in_parts():
    world = two_preemptors(gang=SMALL)
    elsewhere = Node(2, cpu=1_000, ram=65_536, gpus=0, zone="b")
    there = Shape(1000, 1024, node_selector=(("zone", "b"),))
    world = World(
        (*world.nodes, elsewhere),
        (*world.running, Running(4, 2, cpu(1), (), 100, gang=SMALL)),
        (*world.pending, Pending(102, there, priority=400)),
    )
    decided = plan(world.snapshot())
    assert sorted(one.allocation_id for one in decided.evictions) == [SMALL, LARGE, 4]


def test_on_a_shared_cluster_nobody_stays_whose_organization_is_at_its_limit():
    """The organization's own small one goes so that the first stays within the limit, room or no room."""
    mine, theirs = 1, 2
    quotas = (Quota(mine, Resources(), Resources(2000, 65_536, 0)), Quota(theirs, Resources()))
    owners = {SMALL: mine, LARGE: theirs, 3: theirs, 100: mine, 101: theirs}
    decided = plan(Shared(two_preemptors(), quotas, owners).snapshot())
    assert {one.deployment_id for one in decided.evictions} == {SMALL, LARGE}


@given(worlds())
@checked()
def test_no_victim_could_stay_beside_everything_decided(world: World) -> None:
    _nobody_could_stay(world)


@given(gang_worlds())
@checked()
def test_no_victim_gang_could_stay_beside_everything_decided(world: World) -> None:
    _nobody_could_stay(world)


def _nobody_could_stay(world: World) -> None:
    decided = plan(world.snapshot())
    gone = victims_gone(commit(world, decided), requeue=False)
    pending = {item.id: item for item in world.pending}
    left = {}
    for node in world.nodes:
        left[node.id] = free_on(gone, node)
        for nomination in decided.nominations:
            if nomination.node_id == node.id:
                shape = pending[nomination.deployment_id].shape
                left[node.id] = take(left[node.id], shape, nomination.gpu_indices)
    running = {run.id: run for run in world.running}
    parts = defaultdict(list)
    for eviction in decided.evictions:
        parts[eviction.deployment_id].append(running[eviction.allocation_id])
    for runs in parts.values():
        room = dict(left)
        for run in runs:
            room[run.node_id] = take(room[run.node_id], run.shape, run.devices)
        assert any(min(cpu_, ram, *gpu, 0) < 0 for cpu_, ram, gpu in room.values())
