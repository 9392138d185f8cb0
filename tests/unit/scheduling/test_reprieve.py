"""No needless victims when several preemptors of one pass choose the same node."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

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
    after_victims_end,
    commit,
    cpu,
    free_on,
    gang_worlds,
    take,
    worlds,
)
from tests.support.shared_clusters import Shared

SMALL, LARGE = 1, 2


def two_preemptors(**victim: Any) -> World:
    """A node with ten cores, one of them free. The first preemptor needs two, so a small victim of the lowest
    priority is evicted. The next needs two as well, which only a large victim of four cores can free."""
    return World(
        (Node(1, cpu=10_000, ram=65_536, gpus=0),),
        (
            Running(SMALL, 1, cpu(1), (), 100, **victim),
            Running(LARGE, 1, cpu(4), (), 200),
            Running(3, 1, cpu(4), (), 1000),
        ),
        (Pending(100, cpu(2), priority=750), Pending(101, cpu(2), priority=500)),
    )


def test_an_earlier_victim_is_reprieved_when_a_later_eviction_makes_room_for_both() -> None:
    decided = plan(two_preemptors().snapshot())
    assert [one.deployment_id for one in decided.evictions] == [LARGE]
    assert {one.deployment_id for one in decided.nominations} == {100, 101}
    after = plan(after_victims_end(commit(two_preemptors(), decided)).snapshot())
    assert {one.deployment_id for one in after.placements} == {100, 101}


def test_the_receipts_name_the_reprieved_victim() -> None:
    decided = plan(two_preemptors().snapshot())
    assert {
        preemptor: {one.deployment_id: one.why for one in all_}
        for preemptor, all_ in decided.reprieved.items()
    } == {101: {SMALL: REPRIEVED_LATE}}


def test_a_gang_is_not_reprieved_in_parts() -> None:
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


def test_no_victim_is_reprieved_above_the_limit_of_its_organization() -> None:
    """The organization's own small deployment is evicted to keep the limit, even if it would fit."""
    own_org, other_org = 1, 2
    quotas = (Quota(own_org, Resources(), Resources(2000, 65_536, 0)), Quota(other_org, Resources()))
    owners = {SMALL: own_org, LARGE: other_org, 3: other_org, 100: own_org, 101: other_org}
    decided = plan(Shared(two_preemptors(), quotas, owners).snapshot())
    assert {one.deployment_id for one in decided.evictions} == {SMALL, LARGE}


@given(worlds())
@checked()
def test_no_victim_could_stay_beside_everything_decided(world: World) -> None:
    _check_no_victim_could_stay(world)


@given(gang_worlds())
@checked()
def test_no_victim_gang_could_stay_beside_everything_decided(world: World) -> None:
    _check_no_victim_could_stay(world)


def _check_no_victim_could_stay(world: World) -> None:
    decided = plan(world.snapshot())
    ended = after_victims_end(commit(world, decided), requeue=False)
    pending = {item.id: item for item in world.pending}
    left = {}
    for node in world.nodes:
        left[node.id] = free_on(ended, node)
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
