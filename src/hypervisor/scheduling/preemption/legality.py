"""Which evictions are legal: one function of the usage of two organizations and the two deployments."""

from __future__ import annotations

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.queueing.quota_usage import QuotaUsage


def applicable_rule(
    *,
    same_organization: bool,
    preemptor_usage: QuotaUsage,
    demand: Resources,
    priority: int,
    victim_usage: QuotaUsage,
    victim: Resources,
    victim_priority: int,
) -> PreemptionRule | None:
    """The rule by which a deployment with this demand may evict the victim, or None if it may not.

    Within one organization a victim must have a strictly lower priority (PRIORITY).

    Across organizations a victim must belong to a borrower: an organization that uses more than its guarantee
    of some resource that both the demand and the victim contain. Of borrowers

    - a deployment within its own organization's guarantee may evict work of any priority (RECLAIM). The
      capacity was lent, and the lender reclaims it.
    - any other deployment may evict work of strictly lower priority, if its organization's share with the
      demand is at most the victim's organization's share without the victim (FAIR_SHARE). Otherwise the
      victim could take the capacity back by the same rule.

    `victim_usage` excludes the victims chosen before. So no sequence of victims takes an organization below
    its guarantee by more than the last victim. A chain of evictions never returns to its start: after RECLAIM
    the preemptor is within a guarantee, where no other organization can evict it, and FAIR_SHARE and PRIORITY
    replace work by work of a higher priority.
    """
    if same_organization:
        return PreemptionRule.PRIORITY if victim_priority < priority else None
    contested = Resources(
        min(demand.cpu_milli, victim.cpu_milli),
        min(demand.ram_mib, victim.ram_mib),
        min(demand.gpu_milli, victim.gpu_milli),
    )
    if not victim_usage.borrows(contested):
        return None
    if preemptor_usage.is_guaranteed(demand):
        return PreemptionRule.RECLAIM
    if victim_priority < priority and preemptor_usage.dominant_share(
        plus=demand
    ) <= victim_usage.dominant_share(minus=victim):
        return PreemptionRule.FAIR_SHARE
    return None
