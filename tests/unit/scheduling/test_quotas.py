"""Shared clusters: limits, lending, reclaim, and what must hold for every plan on them."""

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
from tests.support.scheduling import NOW, spoken_for, worlds
from tests.support.shared_clusters import Shared, eight_gpus, gpus_of, holds, shared_clusters, two_nodes

MINE, THEIRS = 1, 2


def guaranteed(mine: int, theirs: int) -> Shared:
    """8 GPUs, so many of them guaranteed to each of two organizations."""
    return eight_gpus(Quota(MINE, gpus_of(mine)), Quota(THEIRS, gpus_of(theirs)))


def settled(shared: Shared) -> Shared:
    """Passes until nothing moves any more."""
    for _ in range(50):
        decided = plan(shared.snapshot())
        if not decided.placements and not decided.evictions:
            return shared
        shared = shared.after(decided).victims_gone()
    pytest.fail("still moving")


def test_what_a_guarantee_leaves_idle_is_lent() -> None:
    assert settled(guaranteed(4, 4).pending(THEIRS, 10)).running_of(THEIRS) == 8


def test_a_lender_takes_its_guarantee_back_whatever_the_priorities_and_no_more() -> None:
    lent = guaranteed(4, 4).running(THEIRS, range(8), priority=900)
    after = settled(lent.pending(MINE, 6, priority=100))
    assert (after.running_of(MINE), after.running_of(THEIRS)) == (4, 4)


def test_those_who_wait_to_borrow_do_not_hold_up_the_lender() -> None:
    lent = guaranteed(4, 4).running(THEIRS, range(8), priority=900).pending(THEIRS, 3, priority=900)
    after = settled(lent.pending(MINE, 6, priority=100))
    assert (after.running_of(MINE), after.running_of(THEIRS)) == (4, 4)


def test_the_rule_of_a_reclaim_is_told() -> None:
    (eviction,) = plan(guaranteed(4, 4).running(THEIRS, range(8)).pending(MINE, 1).snapshot()).evictions
    assert eviction.rule is PreemptionRule.RECLAIM


def test_nothing_within_a_guarantee_yields_to_another_organization() -> None:
    full = guaranteed(4, 4).running(THEIRS, range(4), priority=100).running(MINE, range(4, 8), priority=100)
    evictions = plan(full.pending(MINE, 1, priority=1000).snapshot()).evictions
    assert [full.owners[eviction.allocation_id] for eviction in evictions] == [MINE]


def test_borrowers_of_a_higher_priority_take_until_the_shares_are_even() -> None:
    borrowed = guaranteed(0, 0).running(THEIRS, range(8), priority=100)
    after = settled(borrowed.pending(MINE, 8, priority=900))
    assert (after.running_of(MINE), after.running_of(THEIRS)) == (4, 4)


def test_a_limit_is_never_exceeded_and_the_reason_has_the_figures() -> None:
    decided = plan(eight_gpus(Quota(MINE, Resources(), gpus_of(3))).pending(MINE, 5).snapshot())
    assert len(decided.placements) == 3
    assert {item.reason.code for item in decided.unplaced} == {ReasonCode.QUOTA_LIMIT}
    reason = decided.unplaced[0].reason
    assert reason.shortfall == Resources(0, 0, 1000)
    assert "3 GPUs" in reason.sentence


def test_at_the_limit_an_organizations_own_lower_work_gives_way() -> None:
    full = eight_gpus(Quota(MINE, Resources(), gpus_of(3))).running(MINE, range(3), priority=100)
    wanted = full.pending(MINE, 1, priority=900, size=2)
    assert len(plan(wanted.snapshot()).evictions) == 2
    after = settled(wanted)
    assert after.usage(MINE).gpu_milli == 3000
    assert 1000 in {run.id for run in after.world.running}


def test_at_the_limit_own_lower_work_gives_way_on_other_nodes_too() -> None:
    limited = two_nodes(Quota(MINE, Resources(), gpus_of(4))).running(MINE, range(4), priority=100)
    wanted = limited.pending(MINE, 1, priority=900, size=3)
    decided = plan(wanted.snapshot())
    assert [nomination.node_id for nomination in decided.nominations] == [2]
    assert [eviction.node_id for eviction in decided.evictions] == [1, 1, 1]
    after = settled(wanted)
    assert after.usage(MINE).gpu_milli == 4000
    assert 1000 in {run.id for run in after.world.running}


def test_one_at_its_limit_keeps_nobody_else_waiting() -> None:
    shared = eight_gpus(Quota(MINE, Resources(), gpus_of(1)), Quota(THEIRS, Resources()))
    shared = shared.pending(MINE, 1, priority=900, size=4).pending(THEIRS, 8, priority=100)
    assert len(plan(shared.snapshot()).placements) == 8


def test_a_reclaimed_place_is_not_taken_back_by_a_higher_priority() -> None:
    shared = guaranteed(4, 4).running(THEIRS, range(8), priority=900).pending(MINE, 1, priority=100)
    shared = shared.after(plan(shared.snapshot())).victims_gone()
    decided = plan(shared.snapshot())
    assert [shared.owners[one.deployment_id] for one in decided.placements] == [MINE]
    assert decided.evictions == ()


def test_a_frozen_pair_does_not_evict_each_other() -> None:
    shared = guaranteed(0, 0).running(MINE, range(8), priority=100).pending(MINE, 1, priority=900, size=8)
    assert len(plan(shared.snapshot()).evictions) == 8
    assert plan(replace(shared, frozen=((1000, 103),)).snapshot()).evictions == ()


def test_no_reason_names_work_of_another_organization() -> None:
    shared = guaranteed(0, 0).running(THEIRS, range(8), priority=900).pending(MINE, 2, priority=100, size=8)
    shared = shared.pending(THEIRS, 1, priority=100)
    decided = plan(shared.snapshot())
    own = [item.reason for item in decided.unplaced if shared.owners[item.deployment_id] == MINE]
    told = " ".join(f"{reason.sentence} {reason.suggestion}" for reason in own)
    assert own
    assert not any(str(run.id) in told for run in shared.world.running)
    assert "1002" not in told


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
            over, asked = after.usage(organization).shortfall(limit), holds(shapes[placement.deployment_id])
            assert not (over.cpu_milli and asked.cpu_milli)
            assert not (over.ram_mib and asked.ram_mib)
            assert not (over.gpu_milli and asked.gpu_milli)


@given(shared_clusters(worlds()))
@checked()
def test_across_organizations_only_borrowers_yield(shared: Shared) -> None:
    pending = {item.id: item for item in shared.world.pending}
    running = {run.id: run for run in shared.world.running}
    decided = plan(shared.snapshot())
    gained: dict[int, Resources] = defaultdict(Resources)
    lost: dict[int, Resources] = defaultdict(Resources)
    for chosen in spoken_for(decided):
        gained[shared.owners[chosen.deployment_id]] += holds(pending[chosen.deployment_id].shape)
    for eviction in decided.evictions:
        lost[shared.owners[eviction.deployment_id]] += holds(running[eviction.allocation_id].shape)
    for eviction in decided.evictions:
        preemptor, victim = pending[eviction.preemptor_id], running[eviction.allocation_id]
        mine, theirs = shared.owners[preemptor.id], shared.owners[victim.id]
        if mine == theirs:
            assert victim.priority < preemptor.priority
        else:
            # At the time of the eviction they had at most what this pass has given them on top.
            before = shared.account(theirs)
            most = replace(before, usage=before.usage + gained[theirs])
            assert most.borrows(holds(victim.shape))
            own = shared.account(mine)
            least = replace(own, usage=own.usage - lost[mine])
            assert least.is_guaranteed(holds(preemptor.shape)) or victim.priority < preemptor.priority
        assert victim.preemptible
        assert not victim.releasing
        assert victim.protected_until <= NOW


@given(shared_clusters(worlds()))
@checked()
def test_every_eviction_comes_with_the_place_of_its_beneficiary(shared: Shared) -> None:
    """On its node, or where its own organization had to make room below the limit."""
    decided = plan(shared.snapshot())
    place = {nomination.deployment_id: nomination.node_id for nomination in decided.nominations}
    limited = {quota.organization_id for quota in shared.quotas if quota.limit is not None}
    for eviction in decided.evictions:
        mine, theirs = shared.owners[eviction.preemptor_id], shared.owners[eviction.deployment_id]
        elsewhere = place[eviction.preemptor_id] != eviction.node_id
        assert not elsewhere or (mine == theirs and mine in limited)


@given(shared_clusters(worlds()))
@checked()
def test_every_unplaced_one_has_a_reason(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    placed = {placement.deployment_id for placement in decided.placements}
    reasons = {unplaced.deployment_id: unplaced.reason for unplaced in decided.unplaced}
    assert set(reasons) == {item.id for item in shared.world.pending} - placed
    assert all(reason.sentence and reason.suggestion for reason in reasons.values())
