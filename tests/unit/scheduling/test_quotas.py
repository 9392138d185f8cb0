"""Shared clusters: limits, lending, reclaim, and properties of every plan."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import PreemptionRule, ReasonCode
from hypervisor.scheduling.snapshots.snapshot import Quota
from tests.support.properties import checked
from tests.support.scheduling import NOW, placed_or_nominated, worlds
from tests.support.shared_clusters import (
    Shared,
    eight_gpus,
    gpus_of,
    shared_clusters,
    total_request,
    two_nodes,
)

OWN_ORG, OTHER_ORG = 1, 2


def guaranteed(own_org: int, other_org: int) -> Shared:
    """8 GPUs; the guarantees of two organizations are in GPUs."""
    return eight_gpus(Quota(OWN_ORG, gpus_of(own_org)), Quota(OTHER_ORG, gpus_of(other_org)))


def settled(shared: Shared) -> Shared:
    """Run passes until nothing changes."""
    for _ in range(50):
        decided = plan(shared.snapshot())
        if not decided.placements and not decided.evictions:
            return shared
        shared = shared.after(decided).after_victims_end()
    pytest.fail("still moving")


def test_what_a_guarantee_leaves_idle_is_lent() -> None:
    assert settled(guaranteed(4, 4).pending(OTHER_ORG, 10)).running_of(OTHER_ORG) == 8


def test_a_lender_takes_its_guarantee_back_whatever_the_priorities_and_no_more() -> None:
    lent = guaranteed(4, 4).running(OTHER_ORG, range(8), priority=900)
    after = settled(lent.pending(OWN_ORG, 6, priority=100))
    assert (after.running_of(OWN_ORG), after.running_of(OTHER_ORG)) == (4, 4)


def test_waiting_borrowers_do_not_delay_the_lender() -> None:
    lent = guaranteed(4, 4).running(OTHER_ORG, range(8), priority=900).pending(OTHER_ORG, 3, priority=900)
    after = settled(lent.pending(OWN_ORG, 6, priority=100))
    assert (after.running_of(OWN_ORG), after.running_of(OTHER_ORG)) == (4, 4)


def test_a_reclaim_has_its_rule() -> None:
    (eviction,) = plan(guaranteed(4, 4).running(OTHER_ORG, range(8)).pending(OWN_ORG, 1).snapshot()).evictions
    assert eviction.rule is PreemptionRule.RECLAIM


def test_work_within_a_guarantee_is_not_evicted_for_another_organization() -> None:
    full = (
        guaranteed(4, 4)
        .running(OTHER_ORG, range(4), priority=100)
        .running(OWN_ORG, range(4, 8), priority=100)
    )
    evictions = plan(full.pending(OWN_ORG, 1, priority=1000).snapshot()).evictions
    assert [full.owners[eviction.allocation_id] for eviction in evictions] == [OWN_ORG]


def test_borrowers_of_a_higher_priority_take_until_the_shares_are_even() -> None:
    borrowed = guaranteed(0, 0).running(OTHER_ORG, range(8), priority=100)
    after = settled(borrowed.pending(OWN_ORG, 8, priority=900))
    assert (after.running_of(OWN_ORG), after.running_of(OTHER_ORG)) == (4, 4)


def test_a_limit_is_never_exceeded_and_the_reason_has_the_figures() -> None:
    decided = plan(eight_gpus(Quota(OWN_ORG, Resources(), gpus_of(3))).pending(OWN_ORG, 5).snapshot())
    assert len(decided.placements) == 3
    assert {item.reason.code for item in decided.unplaced} == {ReasonCode.QUOTA_LIMIT}
    reason = decided.unplaced[0].reason
    assert reason.shortfall == Resources(0, 0, 1000)
    assert "3 GPUs" in reason.sentence


def test_at_the_limit_own_lower_work_is_evicted() -> None:
    full = eight_gpus(Quota(OWN_ORG, Resources(), gpus_of(3))).running(OWN_ORG, range(3), priority=100)
    submitted = full.pending(OWN_ORG, 1, priority=900, size=2)
    assert len(plan(submitted.snapshot()).evictions) == 2
    after = settled(submitted)
    assert after.usage(OWN_ORG).gpu_milli == 3000
    assert 1000 in {run.id for run in after.world.running}


def test_at_the_limit_own_lower_work_is_evicted_on_other_nodes_too() -> None:
    limited = two_nodes(Quota(OWN_ORG, Resources(), gpus_of(4))).running(OWN_ORG, range(4), priority=100)
    submitted = limited.pending(OWN_ORG, 1, priority=900, size=3)
    decided = plan(submitted.snapshot())
    assert [nomination.node_id for nomination in decided.nominations] == [2]
    assert [eviction.node_id for eviction in decided.evictions] == [1, 1, 1]
    after = settled(submitted)
    assert after.usage(OWN_ORG).gpu_milli == 4000
    assert 1000 in {run.id for run in after.world.running}


def test_a_deployment_at_its_limit_does_not_delay_others() -> None:
    shared = eight_gpus(Quota(OWN_ORG, Resources(), gpus_of(1)), Quota(OTHER_ORG, Resources()))
    shared = shared.pending(OWN_ORG, 1, priority=900, size=4).pending(OTHER_ORG, 8, priority=100)
    assert len(plan(shared.snapshot()).placements) == 8


def test_reclaimed_capacity_is_not_taken_back_by_a_higher_priority() -> None:
    shared = guaranteed(4, 4).running(OTHER_ORG, range(8), priority=900).pending(OWN_ORG, 1, priority=100)
    shared = shared.after(plan(shared.snapshot())).after_victims_end()
    decided = plan(shared.snapshot())
    assert [shared.owners[one.deployment_id] for one in decided.placements] == [OWN_ORG]
    assert decided.evictions == ()


def test_a_frozen_pair_does_not_evict_each_other() -> None:
    shared = (
        guaranteed(0, 0).running(OWN_ORG, range(8), priority=100).pending(OWN_ORG, 1, priority=900, size=8)
    )
    assert len(plan(shared.snapshot()).evictions) == 8
    assert plan(replace(shared, frozen=((1000, 103),)).snapshot()).evictions == ()


def test_no_reason_names_work_of_another_organization() -> None:
    shared = (
        guaranteed(0, 0).running(OTHER_ORG, range(8), priority=900).pending(OWN_ORG, 2, priority=100, size=8)
    )
    shared = shared.pending(OTHER_ORG, 1, priority=100)
    decided = plan(shared.snapshot())
    own = [item.reason for item in decided.unplaced if shared.owners[item.deployment_id] == OWN_ORG]
    text = " ".join(f"{reason.sentence} {reason.suggestion}" for reason in own)
    assert own
    assert not any(str(run.id) in text for run in shared.world.running)
    assert "1002" not in text


@given(shared_clusters(worlds()))
@checked()
def test_no_limit_is_exceeded_by_a_placement(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    after = shared.after(decided)
    shapes = {item.id: item.shape for item in shared.world.pending}
    for placement in decided.placements:
        organization = shared.owners[placement.deployment_id]
        limit = next(quota.limit for quota in shared.quotas if quota.organization_id == organization)
        if limit is not None:
            over, demand = (
                after.usage(organization).shortfall(limit),
                total_request(shapes[placement.deployment_id]),
            )
            assert not (over.cpu_milli and demand.cpu_milli)
            assert not (over.ram_mib and demand.ram_mib)
            assert not (over.gpu_milli and demand.gpu_milli)


@given(shared_clusters(worlds()))
@checked()
def test_across_organizations_only_borrowers_are_evicted(shared: Shared) -> None:
    pending = {item.id: item for item in shared.world.pending}
    running = {run.id: run for run in shared.world.running}
    decided = plan(shared.snapshot())
    gained: dict[int, Resources] = defaultdict(Resources)
    lost: dict[int, Resources] = defaultdict(Resources)
    for chosen in placed_or_nominated(decided):
        gained[shared.owners[chosen.deployment_id]] += total_request(pending[chosen.deployment_id].shape)
    for eviction in decided.evictions:
        lost[shared.owners[eviction.deployment_id]] += total_request(running[eviction.allocation_id].shape)
    for eviction in decided.evictions:
        preemptor, victim = pending[eviction.preemptor_id], running[eviction.allocation_id]
        own_org, other_org = shared.owners[preemptor.id], shared.owners[victim.id]
        if own_org == other_org:
            assert victim.priority < preemptor.priority
        else:
            # At the time of the eviction the organization had at most its usage plus its gains in this pass.
            before = shared.account(other_org)
            most = replace(before, usage=before.usage + gained[other_org])
            assert most.borrows(total_request(victim.shape))
            own = shared.account(own_org)
            least = replace(own, usage=own.usage - lost[own_org])
            assert least.is_guaranteed(total_request(preemptor.shape)) or victim.priority < preemptor.priority
        assert victim.preemptible
        assert not victim.releasing
        assert victim.protected_until <= NOW


@given(shared_clusters(worlds()))
@checked()
def test_every_eviction_comes_with_the_nomination_of_its_preemptor(shared: Shared) -> None:
    """The eviction is on the preemptor's node, or reduces the usage of its own organization to the limit."""
    decided = plan(shared.snapshot())
    place = {nomination.deployment_id: nomination.node_id for nomination in decided.nominations}
    limited = {quota.organization_id for quota in shared.quotas if quota.limit is not None}
    for eviction in decided.evictions:
        own_org, other_org = shared.owners[eviction.preemptor_id], shared.owners[eviction.deployment_id]
        elsewhere = place[eviction.preemptor_id] != eviction.node_id
        assert not elsewhere or (own_org == other_org and own_org in limited)


@given(shared_clusters(worlds()))
@checked()
def test_every_unplaced_deployment_has_a_reason(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    placed = {placement.deployment_id for placement in decided.placements}
    reasons = {unplaced.deployment_id: unplaced.reason for unplaced in decided.unplaced}
    assert set(reasons) == {item.id for item in shared.world.pending} - placed
    assert all(reason.sentence and reason.suggestion for reason in reasons.values())
