"""Properties of every plan on random clusters with running and pending gangs."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Placement, ReasonCode
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Nomination
from tests.support.properties import POLICIES, checked, comparable, shuffled
from tests.support.scheduling import (
    NOW,
    Pending,
    World,
    admits,
    after_victims_end,
    commit,
    free_on,
    gang_fits,
    gang_worlds,
    placed_or_nominated,
    take,
)

examples = checked(150)
preempting = Policy()


def releasing(world: World) -> tuple[int, ...]:
    return tuple(run.id for run in world.running if run.releasing)


def whole(items: Iterable[Placement | Nomination], pending: dict[int, Pending]) -> bool:
    """Whether each deployment among these has all of its replicas, each once."""
    replicas = defaultdict(list)
    for item in items:
        replicas[item.deployment_id].append(item.replica)
    return all(sorted(found) == list(range(pending[id_].replicas)) for id_, found in replicas.items())


@given(gang_worlds(), POLICIES)
@examples
def test_all_replicas_or_none_are_placed_or_nominated(world: World, policy: Policy) -> None:
    pending = {item.id: item for item in world.pending}
    decided = plan(world.snapshot(), policy)
    assert whole(decided.placements, pending)
    assert whole(decided.nominations, pending)
    placed = {placement.deployment_id for placement in decided.placements}
    assert placed.isdisjoint(nomination.deployment_id for nomination in decided.nominations)


@given(gang_worlds(), POLICIES)
@examples
def test_never_over_a_nodes_or_a_gpus_capacity(world: World, policy: Policy) -> None:
    nodes = {node.id: node for node in world.nodes}
    pending = {item.id: item for item in world.pending}
    decided = plan(world.snapshot(), policy)
    for chosen in placed_or_nominated(decided):
        shape = pending[chosen.deployment_id].shape
        assert admits(nodes[chosen.node_id], shape)
        assert len(set(chosen.gpu_indices)) == shape.gpu_device_count
    after = commit(world, decided)
    ended = after_victims_end(after, requeue=False)
    for node in world.nodes:
        cpu, ram, gpu = free_on(after, node)
        assert min(cpu, ram, *gpu, 0) == 0
        free_capacity = free_on(ended, node)
        for nomination in decided.nominations:
            if nomination.node_id == node.id:
                free_capacity = take(
                    free_capacity, pending[nomination.deployment_id].shape, nomination.gpu_indices
                )
        assert min(free_capacity[0], free_capacity[1], *free_capacity[2], 0) == 0


@given(gang_worlds(), POLICIES)
@examples
def test_a_gang_is_evicted_whole_and_only_if_every_replica_may_be(world: World, policy: Policy) -> None:
    pending = {item.id: item for item in world.pending}
    decided = plan(world.snapshot(), policy)
    evicted = Counter(eviction.allocation_id for eviction in decided.evictions)
    assert set(evicted.values()) <= {1}
    preemptor_of = {eviction.deployment_id: eviction.preemptor_id for eviction in decided.evictions}
    for run in world.running:
        assert (run.id in evicted) == (run.deployment in preemptor_of)
        if run.id in evicted:
            assert run.priority < pending[preemptor_of[run.deployment]].priority
            assert run.preemptible
            assert not run.releasing
            assert run.protected_until <= NOW


@given(gang_worlds())
@examples
def test_every_eviction_is_for_a_gang_that_is_nominated_whole(world: World) -> None:
    decided = plan(world.snapshot(), preempting)
    nominated = Counter(nomination.deployment_id for nomination in decided.nominations)
    pending = {item.id: item for item in world.pending}
    for eviction in decided.evictions:
        assert nominated[eviction.preemptor_id] == pending[eviction.preemptor_id].replicas


@given(gang_worlds(max_pending=1))
@examples
def test_restoring_any_victim_gang_breaks_the_fit(world: World) -> None:
    decided = plan(world.snapshot(), preempting)
    if not decided.evictions:
        return
    item, stopping = world.pending[0], releasing(world)
    rows = defaultdict(set)
    for eviction in decided.evictions:
        rows[eviction.deployment_id].add(eviction.allocation_id)
    ended = set().union(*rows.values())
    assert gang_fits(world, item, {*stopping, *ended})
    for back in rows.values():
        assert not gang_fits(world, item, {*stopping, *(ended - back)})


@given(gang_worlds(max_pending=1))
@examples
def test_a_gang_that_evictions_could_admit_does_not_wait(world: World) -> None:
    decided = plan(world.snapshot(), preempting)
    if not world.pending or decided.placements or decided.nominations:
        return
    item = world.pending[0]
    stays = {
        run.deployment
        for run in world.running
        if run.priority >= item.priority or not run.preemptible or run.protected_until > NOW
    }
    leaving = {run.id for run in world.running if run.releasing or run.deployment not in stays}
    assert not gang_fits(world, item, leaving)


@given(gang_worlds(), POLICIES)
@examples
def test_planning_again_after_the_commit_changes_nothing(world: World, policy: Policy) -> None:
    first = plan(world.snapshot(), policy)
    again = plan(commit(world, first).snapshot(), policy)
    assert again.placements == ()
    assert again.evictions == ()
    assert again.nominations == first.nominations


@given(gang_worlds())
@examples
def test_every_nominated_deployment_is_placed_after_its_victims_end(world: World) -> None:
    busy = commit(world, plan(world.snapshot(), preempting))
    after = after_victims_end(busy, requeue=False)
    placed = {placement.deployment_id for placement in plan(after.snapshot(), preempting).placements}
    assert {nomination.deployment_id for nomination in after.nominations} <= placed


@given(gang_worlds(), POLICIES)
@examples
def test_every_unplaced_deployment_has_a_reason(world: World, policy: Policy) -> None:
    decided = plan(world.snapshot(), policy)
    placed = {placement.deployment_id for placement in decided.placements}
    nominated = {nomination.deployment_id for nomination in decided.nominations}
    reasons = {unplaced.deployment_id: unplaced.reason for unplaced in decided.unplaced}
    assert set(reasons) == {item.id for item in world.pending} - placed
    for deployment_id, reason in reasons.items():
        assert reason.sentence
        assert reason.suggestion
        assert (reason.code is ReasonCode.WAITING_FOR_VICTIMS) == (deployment_id in nominated)


@given(gang_worlds(), POLICIES, st.randoms(use_true_random=False))
@examples
def test_the_order_of_rows_does_not_matter(world: World, policy: Policy, shuffle: random.Random) -> None:
    world = commit(world, plan(world.snapshot(), policy))
    mixed = replace(
        world,
        nodes=shuffled(world.nodes, shuffle),
        running=shuffled(world.running, shuffle),
        pending=shuffled(world.pending, shuffle),
        nominations=shuffled(world.nominations, shuffle),
    )
    assert comparable(plan(mixed.snapshot(), policy)) == comparable(plan(world.snapshot(), policy))
