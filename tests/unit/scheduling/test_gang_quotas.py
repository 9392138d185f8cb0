"""Gangs on shared clusters: what they reclaim from others, and evictions within a limit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Placement, PreemptionRule
from hypervisor.scheduling.snapshots.snapshot import Nomination, Quota
from tests.support.properties import checked
from tests.support.scheduling import NOW, Running, World, gang_fits, gang_worlds, gpu, placed_or_nominated
from tests.support.shared_clusters import Shared, gpus_of, shared_clusters, total_request, two_nodes

OWN_ORG, OTHER_ORG = 1, 2
clusters = shared_clusters(gang_worlds(max_pending=4))


def guaranteed(own_org: int, other_org: int) -> Shared:
    """Two nodes with 4 GPUs each; the guarantees of two organizations are in GPUs."""
    return two_nodes(Quota(OWN_ORG, gpus_of(own_org)), Quota(OTHER_ORG, gpus_of(other_org)))


def lent(own_org: int, other_org: int, priority: int) -> Shared:
    """All 8 devices are used by the other organization."""
    shared = guaranteed(own_org, other_org).running(OTHER_ORG, range(4), priority=priority)
    return shared.running(OTHER_ORG, range(4), priority=priority, node=2)


def settled(shared: Shared) -> Shared:
    for _ in range(50):
        decided = plan(shared.snapshot())
        if not decided.placements and not decided.evictions:
            return shared
        shared = shared.after(decided).after_victims_end()
    pytest.fail("still moving")


def test_a_lenders_gang_takes_the_guarantee_back_over_several_nodes_and_no_more() -> None:
    submitted = lent(6, 2, priority=900).pending(OWN_ORG, 2, priority=100, size=3, replicas=2)
    decided = plan(submitted.snapshot())
    assert {one.node_id for one in decided.nominations} == {1, 2}
    assert Counter(one.node_id for one in decided.evictions) == {1: 3, 2: 3}
    assert all(one.rule is PreemptionRule.RECLAIM for one in decided.evictions)
    after = settled(submitted)
    assert (after.usage(OWN_ORG).gpu_milli, after.usage(OTHER_ORG).gpu_milli) == (6000, 2000)


def test_a_gang_that_its_guarantee_does_not_cover_whole_reclaims_nothing() -> None:
    submitted = lent(4, 4, priority=900).pending(OWN_ORG, 1, priority=100, size=3, replicas=2)
    assert plan(submitted.snapshot()).evictions == ()


def test_a_borrowing_gang_evicts_lower_work_only_up_to_even_shares() -> None:
    lower = lent(0, 0, priority=100)
    decided = plan(lower.pending(OWN_ORG, 1, priority=900, size=2, replicas=2).snapshot())
    assert len(decided.evictions) == 4
    assert all((one.preemptor_priority, one.victim_priority) == (900, 100) for one in decided.evictions)
    assert plan(lower.pending(OWN_ORG, 1, priority=900, size=3, replicas=2).snapshot()).evictions == ()


def test_reclaim_evicts_where_it_makes_room() -> None:
    """Four devices may be reclaimed. The four least important are two on each node, which would free four
    devices on neither; the four of one node do."""
    shared = guaranteed(4, 4)
    for node in (1, 2):
        shared = shared.running(OTHER_ORG, range(2), priority=100, node=node)
        shared = shared.running(OTHER_ORG, range(2, 4), priority=200, node=node)
    submitted = shared.pending(OWN_ORG, 1, priority=50, size=2, replicas=2)
    decided = plan(submitted.snapshot())
    assert len(decided.evictions) == 4
    assert whole(submitted, decided.nominations)


def test_work_within_a_guarantee_is_not_evicted_for_a_gang_of_another_organization() -> None:
    full = guaranteed(4, 4).running(OTHER_ORG, range(4), priority=100).running(OWN_ORG, range(4), node=2)
    submitted = full.pending(OWN_ORG, 1, priority=1000, size=1, replicas=2)
    assert {full.owners[one.deployment_id] for one in plan(submitted.snapshot()).evictions} == {OWN_ORG}


def test_at_the_limit_own_lower_work_is_evicted_for_a_gang() -> None:
    shared = two_nodes(Quota(OWN_ORG, Resources(), gpus_of(4)), Quota(OTHER_ORG, Resources()))
    shared = shared.running(OWN_ORG, range(4), priority=100).running(
        OTHER_ORG, range(1), priority=100, node=2
    )
    submitted = shared.pending(OWN_ORG, 1, priority=900, size=1, replicas=3)
    decided = plan(submitted.snapshot())
    assert {shared.owners[one.deployment_id] for one in decided.evictions} == {OWN_ORG}
    assert len(decided.evictions) == 3
    after = settled(submitted)
    assert after.usage(OWN_ORG).gpu_milli == 4000
    assert sum(run.gang == 1000 for run in after.world.running) == 3


def test_a_gang_above_its_limit_waits_where_nothing_lower_could_go() -> None:
    shared = two_nodes(Quota(OWN_ORG, Resources(), gpus_of(4))).running(OWN_ORG, range(4), priority=900)
    decided = plan(shared.pending(OWN_ORG, 1, priority=900, size=1, replicas=2).snapshot())
    assert decided.evictions == ()
    assert decided.nominations == ()


def test_gangs_respect_frozen_pairs_on_a_shared_cluster() -> None:
    submitted = lent(8, 0, priority=100).pending(OWN_ORG, 1, priority=100, size=4, replicas=2)
    assert len(plan(submitted.snapshot()).evictions) == 8
    assert plan(replace(submitted, frozen=((1000, 100),)).snapshot()).evictions == ()


def whole(shared: Shared, chosen: Iterable[Placement | Nomination]) -> bool:
    """Whether each deployment among these has all of its replicas, each once."""
    sizes = {item.id: item.replicas for item in shared.world.pending}
    replicas = defaultdict(list)
    for one in chosen:
        replicas[one.deployment_id].append(one.replica)
    return all(sorted(found) == list(range(sizes[id_])) for id_, found in replicas.items())


def together(world: World) -> dict[int, Resources]:
    """The resources of each running deployment with all of its replicas."""
    held: dict[int, Resources] = defaultdict(Resources)
    for run in world.running:
        held[run.deployment] += total_request(run.shape)
    return held


def over_limit(shared: Shared, organization: int, demand: Resources) -> bool:
    """Whether the organization exceeds its limit for a resource in `demand`."""
    limit = next(quota.limit for quota in shared.quotas if quota.organization_id == organization)
    if limit is None:
        return False
    over = shared.usage(organization).shortfall(limit)
    return bool(
        (over.cpu_milli and demand.cpu_milli)
        or (over.ram_mib and demand.ram_mib)
        or (over.gpu_milli and demand.gpu_milli)
    )


@given(clusters)
@checked(100)
def test_gangs_are_decided_whole_and_no_limit_is_exceeded(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    assert whole(shared, decided.placements)
    assert whole(shared, decided.nominations)
    nominated = {one.deployment_id for one in decided.nominations}
    assert {one.preemptor_id for one in decided.evictions} <= nominated
    after, pending = shared.after(decided), {item.id: item for item in shared.world.pending}
    for one in decided.placements:
        shape = pending[one.deployment_id].shape
        assert not over_limit(after, shared.owners[one.deployment_id], total_request(shape))


@given(clusters)
@checked(100)
def test_across_organizations_gangs_evict_only_borrowers(shared: Shared) -> None:
    pending = {item.id: item for item in shared.world.pending}
    running: dict[int, Running] = {run.deployment: run for run in shared.world.running}
    decided, held = plan(shared.snapshot()), together(shared.world)
    gained: dict[int, Resources] = defaultdict(Resources)
    lost: dict[int, Resources] = defaultdict(Resources)
    for chosen in placed_or_nominated(decided):
        gained[shared.owners[chosen.deployment_id]] += total_request(pending[chosen.deployment_id].shape)
    preemptors = {one.deployment_id: one.preemptor_id for one in decided.evictions}
    for victim_id in preemptors:
        lost[shared.owners[victim_id]] += held[victim_id]
    for victim_id, preemptor_id in preemptors.items():
        preemptor, victim = pending[preemptor_id], running[victim_id]
        own_org, other_org = shared.owners[preemptor_id], shared.owners[victim_id]
        assert victim.preemptible
        assert victim.protected_until <= NOW
        if own_org == other_org:
            assert victim.priority < preemptor.priority
            continue
        # At the time of the eviction the organization had at most its usage plus its gains in this pass.
        before = shared.account(other_org)
        most = replace(before, usage=before.usage + gained[other_org])
        assert most.borrows(held[victim_id])
        own = shared.account(own_org)
        least = replace(own, usage=own.usage - lost[own_org])
        job = total_request(preemptor.shape, preemptor.replicas)
        assert least.is_guaranteed(job) or victim.priority < preemptor.priority


@given(shared_clusters(gang_worlds(max_pending=1)))
@checked(100)
def test_restoring_any_victim_breaks_the_fit_or_the_limit(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    if not decided.evictions:
        return
    world, item = shared.world, shared.world.pending[0]
    own_org, job = shared.owners[item.id], total_request(item.shape, item.replicas)
    stopping = {run.id for run in world.running if run.releasing}
    victims = {one.deployment_id for one in decided.evictions}

    def admits(evicted: set[int]) -> bool:
        rows = {run.id for run in world.running if run.deployment in evicted} | stopping
        left = replace(
            shared, world=replace(world, running=tuple(r for r in world.running if r.id not in rows))
        )
        account = replace(shared.account(own_org), usage=left.usage(own_org))
        return gang_fits(world, item, rows) and account.over_limit(job).is_zero

    assert admits(victims)
    assert not any(admits(victims - {back}) for back in victims)


@given(shared_clusters(gang_worlds(max_pending=1)))
@checked(100)
def test_a_gang_that_its_own_lower_work_could_admit_does_not_wait(shared: Shared) -> None:
    decided = plan(shared.snapshot())
    if not shared.world.pending or decided.placements or decided.nominations:
        return
    world, item = shared.world, shared.world.pending[0]
    own_org = shared.owners[item.id]
    stays = {
        run.deployment
        for run in world.running
        if shared.owners[run.deployment] != own_org
        or run.priority >= item.priority
        or not run.preemptible
        or run.protected_until > NOW
    }
    leaving = {run.id for run in world.running if run.releasing or run.deployment not in stays}
    left = replace(
        shared, world=replace(world, running=tuple(r for r in world.running if r.id not in leaving))
    )
    account = replace(shared.account(own_org), usage=left.usage(own_org))
    within = account.over_limit(total_request(item.shape, item.replicas)).is_zero
    assert not (gang_fits(world, item, leaving) and within)


@given(clusters)
@checked(60)
def test_lending_and_reclaiming_comes_to_rest(shared: Shared) -> None:
    for _ in range(6 * (len(shared.world.running) + len(shared.world.pending)) + 6):
        decided = plan(shared.snapshot())
        if not decided.placements and not decided.evictions:
            return
        shared = shared.after(decided).after_victims_end()
    pytest.fail("still moving")


def test_reclaimed_capacity_is_not_taken_back() -> None:
    submitted = lent(4, 4, priority=900).pending(OWN_ORG, 1, priority=100, size=2, replicas=2)
    after = submitted.after(plan(submitted.snapshot())).after_victims_end()
    decided = plan(after.snapshot())
    assert {after.owners[one.deployment_id] for one in decided.placements} == {OWN_ORG}
    assert decided.evictions == ()
    assert gpu(2) in {run.shape for run in after.after(decided).world.running}
