"""Shares of organizations, the legality of evictions, and the order that follows from them."""

from __future__ import annotations

import pytest

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.preemption.legality import applicable_rule
from hypervisor.scheduling.queueing.ordering import order_components, queue_order
from hypervisor.scheduling.queueing.quota_usage import QuotaUsage
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.snapshot import Quota, Shape

WHOLE = Resources(10_000, 10_240, 10_000)
GPU = Shape(1000, 1024, 1000)


def gpus(count: float) -> Resources:
    return Resources(0, 0, round(count * 1000))


def account(used: float, guaranteed: float, *, limit: float | None = None, weight: float = 1.0) -> QuotaUsage:
    bound = None if limit is None else gpus(limit)
    return QuotaUsage(Quota(1, gpus(guaranteed), bound, weight), gpus(used), WHOLE)


def test_the_share_is_what_is_borrowed_of_the_scarcest_resource_by_weight() -> None:
    quota = Quota(1, Resources(2000, 0, 2000), weight=2.0)
    used = QuotaUsage(quota, Resources(3000, 5120, 2000), WHOLE)
    assert used.dominant_share() == pytest.approx(0.25)
    assert used.dominant_share(plus=gpus(8)) == pytest.approx(0.4)
    assert used.dominant_share(minus=Resources(0, 5120, 0)) == pytest.approx(0.05)


def test_within_the_guarantee_the_share_is_zero() -> None:
    assert account(2, 4).dominant_share(plus=gpus(2)) == 0
    assert account(2, 4).is_guaranteed(gpus(2))
    assert not account(2, 4).is_guaranteed(gpus(3))


def test_over_limit_counts_only_requested_resources() -> None:
    assert account(3, 0, limit=4).over_limit(gpus(3)) == gpus(2)
    assert account(3, 0, limit=4).over_limit(gpus(1)).is_zero
    full = QuotaUsage(Quota(1, Resources(), Resources(2000, 0, 4000)), Resources(1000, 0, 5000), WHOLE)
    assert full.over_limit(Resources(1000, 0, 0)).is_zero
    assert account(5, 0).over_limit(gpus(100)).is_zero


@pytest.mark.parametrize(
    ("preemptor_usage", "priority", "victim_usage", "victim_priority", "rule"),
    [
        pytest.param(account(0, 4), 100, account(6, 4), 900, PreemptionRule.RECLAIM, id="lender reclaims"),
        pytest.param(
            account(0, 4), 100, account(6, 4), 100, PreemptionRule.RECLAIM, id="also of equal priority"
        ),
        pytest.param(account(0, 4), 900, account(4, 4), 100, None, id="within its guarantee"),
        pytest.param(account(4, 4), 900, account(4, 4), 100, None, id="both at their guarantees"),
        pytest.param(account(4, 4), 100, account(6, 4), 100, None, id="borrower, equal priority"),
        pytest.param(
            account(4, 4), 900, account(6, 4), 100, PreemptionRule.FAIR_SHARE, id="shares even then"
        ),
        pytest.param(account(5, 4), 900, account(6, 4), 100, None, id="would borrow more than the victim"),
        pytest.param(
            account(5, 4), 900, account(7, 4), 100, PreemptionRule.FAIR_SHARE, id="would borrow no more"
        ),
        pytest.param(
            account(7, 4, weight=4),
            900,
            account(6, 4),
            100,
            PreemptionRule.FAIR_SHARE,
            id="a larger weight may borrow more",
        ),
    ],
)
def test_across_organizations(
    preemptor_usage: QuotaUsage,
    priority: int,
    victim_usage: QuotaUsage,
    victim_priority: int,
    rule: PreemptionRule | None,
) -> None:
    found = applicable_rule(
        same_organization=False,
        preemptor_usage=preemptor_usage,
        demand=gpus(1),
        priority=priority,
        victim_usage=victim_usage,
        victim=gpus(1),
        victim_priority=victim_priority,
    )
    assert found is rule


@pytest.mark.parametrize(
    ("victim_priority", "rule"), [(99, PreemptionRule.PRIORITY), (100, None), (101, None)]
)
def test_within_an_organization_only_strictly_lower_ones(
    victim_priority: int, rule: PreemptionRule | None
) -> None:
    one = account(6, 0)
    found = applicable_rule(
        same_organization=True,
        preemptor_usage=one,
        demand=gpus(1),
        priority=100,
        victim_usage=one,
        victim=gpus(1),
        victim_priority=victim_priority,
    )
    assert found is rule


def test_only_what_is_contested_counts_as_borrowed() -> None:
    """An organization above its guarantee of CPU does not lose its guaranteed GPUs for that."""
    victim_usage = QuotaUsage(Quota(2, Resources(0, 0, 4000)), Resources(5000, 0, 4000), WHOLE)
    preemptor_usage = QuotaUsage(Quota(1, Resources(5000, 5120, 5000)), Resources(), WHOLE)
    rule = applicable_rule(
        same_organization=False,
        preemptor_usage=preemptor_usage,
        demand=gpus(1),
        priority=900,
        victim_usage=victim_usage,
        victim=Resources(1000, 0, 1000),
        victim_priority=100,
    )
    assert rule is None


def _shared() -> SnapshotBuilder:
    builder = SnapshotBuilder(1000.0).add_node(1, cpu_milli=10_000, ram_mib=10_240, gpu_count=10)
    return builder.add_quota(Quota(1, Resources())).add_quota(Quota(2, Resources()))


def _ids(builder: SnapshotBuilder, policy: Policy | None = None) -> list[int]:
    snapshot = builder.build()
    ids: list[int] = snapshot.pending.deployment_id[queue_order(snapshot, policy)].tolist()
    return ids


def test_organizations_take_turns_inside_a_priority() -> None:
    builder = _shared()
    for number in range(3):
        builder.add_pending(10 + number, GPU, created_at=float(number), organization_id=1)
        builder.add_pending(20 + number, GPU, created_at=float(100 + number), organization_id=2)
    assert _ids(builder, Policy(age_weight=0)) == [10, 20, 11, 21, 12, 22]


def test_priority_goes_before_every_share() -> None:
    builder = _shared().add_allocation(
        1, deployment_id=1, node_id=1, cpu_milli=0, ram_mib=0, gpu_indices=range(9), organization_id=1
    )
    builder.add_pending(10, GPU, priority=900, organization_id=1)
    builder.add_pending(20, GPU, priority=100, organization_id=2)
    assert _ids(builder) == [10, 20]


def test_higher_usage_goes_later_until_waiting_outweighs_it() -> None:
    def queue(waited: float) -> list[int]:
        builder = _shared().add_allocation(
            1, deployment_id=1, node_id=1, cpu_milli=0, ram_mib=0, gpu_indices=[0, 1], organization_id=1
        )
        builder.add_pending(10, GPU, created_at=1000.0 - waited, organization_id=1)
        builder.add_pending(20, GPU, created_at=999.0, organization_id=2)
        return _ids(builder, Policy(age_horizon=1000.0, age_weight=0.5))

    assert queue(100.0) == [20, 10]
    assert queue(500.0) == [10, 20]


def test_blocked_time_is_no_waiting() -> None:
    builder = _shared()
    builder.add_pending(10, GPU, created_at=0.0, eligible_since=990.0, organization_id=1)
    builder.add_pending(20, GPU, created_at=500.0, organization_id=2)
    components = order_components(builder.build(), Policy(age_horizon=1000.0))
    assert components.age_factor.tolist() == [0.01, 0.5]
    assert components.position.tolist() == [1, 0]


def test_requests_larger_than_the_cluster_do_not_count() -> None:
    builder = _shared()
    builder.add_pending(10, Shape(0, 0, 64_000), created_at=0.0, organization_id=1)
    builder.add_pending(11, GPU, created_at=1.0, organization_id=1)
    builder.add_pending(20, GPU, created_at=2.0, organization_id=2)
    builder.add_pending(21, GPU, created_at=3.0, organization_id=2)
    assert order_components(builder.build()).share.tolist() == [0.0, 0.0, 0.0, 0.1]


def test_without_quotas_only_priority_and_creation_count() -> None:
    builder = SnapshotBuilder(1000.0).add_node(1, cpu_milli=1000, ram_mib=1024)
    builder.add_pending(1, GPU, priority=100, created_at=5.0, eligible_since=5.0)
    builder.add_pending(2, GPU, priority=100, created_at=6.0, eligible_since=0.0)
    builder.add_pending(3, GPU, priority=200, created_at=7.0)
    components = order_components(builder.build())
    assert components.position.tolist() == [1, 2, 0]
    assert components.share.tolist() == [0.0, 0.0, 0.0]
    assert components.deployment_id.tolist() == [1, 2, 3]
