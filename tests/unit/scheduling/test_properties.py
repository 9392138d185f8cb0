"""Properties of every plan on random clusters."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import ReasonCode
from hypervisor.scheduling.policy import Policy
from tests.support.properties import POLICIES, PREEMPTING, checked, comparable, shuffled
from tests.support.scheduling import (
    NOW,
    Node,
    Pending,
    World,
    admits,
    after_victims_end,
    commit,
    fits,
    free_on,
    gang_worlds,
    placed_or_nominated,
    smaller_sets,
    take,
    worlds,
)
from tests.support.shared_clusters import Shared, shared_clusters


def unshared(world: World) -> Shared:
    return Shared(world, ())


def busy(world: World, policy: Policy) -> World:
    """The world after one pass: with active nominations and stopping victims."""
    return commit(world, plan(world.snapshot(), policy))


@given(worlds(), POLICIES)
@checked()
def test_never_over_a_nodes_or_a_gpus_capacity(world: World, policy: Policy) -> None:
    after = commit(world, plan(world.snapshot(), policy))
    for node in after.nodes:
        cpu, ram, gpu = free_on(after, node)
        assert cpu >= 0
        assert ram >= 0
        assert all(free >= 0 for free in gpu)


@given(worlds(), POLICIES)
@checked()
def test_placements_respect_state_model_labels_and_devices(world: World, policy: Policy) -> None:
    nodes = {node.id: node for node in world.nodes}
    pending = {item.id: item for item in world.pending}
    decided = plan(world.snapshot(), policy)
    assert len({placement.deployment_id for placement in decided.placements}) == len(decided.placements)
    for chosen in placed_or_nominated(decided):
        item, node = pending[chosen.deployment_id], nodes[chosen.node_id]
        assert admits(node, item.shape)
        assert len(set(chosen.gpu_indices)) == item.shape.gpu_device_count
        assert all(0 <= index < node.gpus for index in chosen.gpu_indices)


@given(worlds(), POLICIES)
@checked()
def test_never_evicts_equal_higher_protected_or_releasing_work(world: World, policy: Policy) -> None:
    pending = {item.id: item for item in world.pending}
    running = {run.id: run for run in world.running}
    decided = plan(world.snapshot(), policy)
    assert policy.preemption or not decided.evictions
    assert len({eviction.allocation_id for eviction in decided.evictions}) == len(decided.evictions)
    for eviction in decided.evictions:
        victim = running[eviction.allocation_id]
        assert victim.priority < pending[eviction.preemptor_id].priority
        assert victim.preemptible
        assert not victim.releasing
        assert victim.protected_until <= NOW


@given(worlds(), PREEMPTING)
@checked()
def test_every_eviction_comes_with_the_nomination_of_its_preemptor(world: World, policy: Policy) -> None:
    decided = plan(world.snapshot(), policy)
    nominated_node = {nomination.deployment_id: nomination.node_id for nomination in decided.nominations}
    for eviction in decided.evictions:
        assert nominated_node[eviction.preemptor_id] == eviction.node_id


@given(worlds(), PREEMPTING)
@checked()
def test_nominations_fit_together_after_the_victims_end(world: World, policy: Policy) -> None:
    after = after_victims_end(busy(world, policy), requeue=False)
    pending = {item.id: item for item in after.pending}
    for node in after.nodes:
        free_capacity = free_on(after, node)
        for nomination in after.nominations:
            if nomination.node_id == node.id:
                free_capacity = take(
                    free_capacity, pending[nomination.deployment_id].shape, nomination.gpu_indices
                )
        cpu, ram, gpu = free_capacity
        assert cpu >= 0
        assert ram >= 0
        assert all(free >= 0 for free in gpu)


@given(worlds(max_pending=1), PREEMPTING)
@checked()
def test_restoring_any_victim_breaks_the_fit(world: World, policy: Policy) -> None:
    """With one preemptor no other decision affects the node."""
    decided = plan(world.snapshot(), policy)
    nodes = {node.id: node for node in world.nodes}
    releasing = tuple(run.id for run in world.running if run.releasing)
    victims = tuple(eviction.allocation_id for eviction in decided.evictions)
    for nomination in decided.nominations:
        node, shape = nodes[nomination.node_id], world.pending[0].shape
        assert fits(shape, free_on(world, node, releasing + victims))
        for fewer in smaller_sets(victims):
            assert not fits(shape, free_on(world, node, releasing + fewer))


@given(worlds(), PREEMPTING)
@checked()
def test_no_deployment_waits_that_evictions_on_one_node_could_admit(world: World, policy: Policy) -> None:
    """The oracle checks which capacity an unplaced deployment without a nomination could get.

    Capacity of higher-ranked nominations counts as used, that of lower-ranked nominations as free. Behind the
    head of the queue the node that the head reserves is left out.
    """
    decided = plan(world.snapshot(), policy)
    after = commit(world, decided)
    nominated = {nomination.deployment_id for nomination in after.nominations}
    blocked = sorted((item for item in after.pending if item.id not in nominated), key=lambda item: item.rank)
    head = next((item for item in blocked if _large_enough(world, item)), None)
    held = set()
    for item in blocked:
        admitting = {node.id for node in after.nodes if _admissible(after, item, node)}
        if head is None or item.rank <= head.rank:
            assert not admitting, item
        held |= admitting
    assert len(held) <= 1


def _large_enough(world: World, item: Pending) -> bool:
    return any(
        admits(node, item.shape) and fits(item.shape, (node.cpu, node.ram, [1000] * node.gpus))
        for node in world.nodes
    )


def _admissible(world: World, item: Pending, node: Node) -> bool:
    if not admits(node, item.shape):
        return False
    leaving = [
        run.id
        for run in world.running
        if run.releasing or (run.priority < item.priority and run.preemptible and run.protected_until <= NOW)
    ]
    free_capacity = free_on(world, node, leaving)
    pending = {other.id: other for other in world.pending}
    for nomination in world.nominations:
        nominated = pending[nomination.deployment_id]
        if nomination.node_id == node.id and nominated.rank < item.rank:
            free_capacity = take(free_capacity, nominated.shape, nomination.gpu_indices)
    return fits(item.shape, free_capacity)


@given(worlds(), POLICIES)
@checked()
def test_planning_again_after_the_commit_changes_nothing(world: World, policy: Policy) -> None:
    first = plan(world.snapshot(), policy)
    again = plan(commit(world, first).snapshot(), policy)
    assert again.placements == ()
    assert again.evictions == ()
    assert again.nominations == first.nominations


@given(worlds(), PREEMPTING)
@checked()
def test_every_nominated_deployment_is_placed_after_its_victims_end(world: World, policy: Policy) -> None:
    after = after_victims_end(busy(world, policy), requeue=False)
    placed = {placement.deployment_id for placement in plan(after.snapshot(), policy).placements}
    assert {nomination.deployment_id for nomination in after.nominations} <= placed


@given(worlds(), POLICIES)
@checked()
def test_every_unplaced_deployment_has_a_reason(world: World, policy: Policy) -> None:
    decided = plan(world.snapshot(), policy)
    placed = {placement.deployment_id for placement in decided.placements}
    nominated = {nomination.deployment_id for nomination in decided.nominations}
    reasons = {unplaced.deployment_id: unplaced.reason for unplaced in decided.unplaced}
    assert set(reasons) == {item.id for item in world.pending} - placed
    assert len(reasons) == len(decided.unplaced)
    for deployment_id, reason in reasons.items():
        assert reason.sentence
        assert reason.suggestion
        assert (reason.code is ReasonCode.WAITING_FOR_VICTIMS) == (deployment_id in nominated)


@pytest.mark.parametrize(
    "clusters",
    [
        pytest.param(worlds().map(unshared), id="single"),
        pytest.param(gang_worlds().map(unshared), id="gangs"),
        pytest.param(shared_clusters(worlds()), id="shared"),
        pytest.param(shared_clusters(gang_worlds(max_pending=4)), id="shared-gangs"),
    ],
)
@given(data=st.data(), policy=PREEMPTING)
@checked()
def test_without_arrivals_evictions_end(
    clusters: st.SearchStrategy[Shared], data: st.DataObject, policy: Policy
) -> None:
    """Evicted work returns to its old position in the queue, and the passes still reach a steady state."""
    shared = data.draw(clusters)
    for _ in range(6 * (len(shared.world.running) + len(shared.world.pending)) + 6):
        decided = plan(shared.snapshot(), policy)
        if not decided.placements and not decided.evictions:
            return
        shared = shared.after(decided).after_victims_end()
    pytest.fail("still moving")


@given(worlds(), POLICIES, st.randoms(use_true_random=False))
@checked()
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
