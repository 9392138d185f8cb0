"""Who may be evicted for whom: the one rule, as a function of the two accounts and the two jobs."""

from __future__ import annotations

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.queueing.quota_usage import QuotaUsage


def applicable_rule(
    *,
    same_organization: bool,
    mine: QuotaUsage,
    job: Resources,
    priority: int,
    theirs: QuotaUsage,
    victim: Resources,
    victim_priority: int,
) -> PreemptionRule | None:
    """The rule by which `job` may evict `victim`, or None if it may not.

    Within one organization: only what has a strictly lower priority (PRIORITY).

    Across organizations only work of an organization that uses more than its guarantee of something that
    both the job asks for and the victim holds: what is within a guarantee yields to no other organization.
    Of such borrowers

    - a job within its own organization's guarantee may evict anything, whatever the priorities (RECLAIM):
      the capacity was lent, and the lender wants it back;
    - any other job may evict what has a strictly lower priority, if its organization's share with the job
      is at most the victim's organization's share without the victim (FAIR_SHARE): else the victim could
      turn round and take it back.

    The victim's account is to be given without what has been chosen before it, so that no sequence of
    victims takes an organization below its guarantee by more than its last one. No chain of evictions
    comes back to its start: after RECLAIM the preemptor is within a guarantee, where nobody else can evict
    it; FAIR_SHARE and PRIORITY replace work by work of a higher priority.
    """
    if same_organization:
        return PreemptionRule.PRIORITY if victim_priority < priority else None
    contested = Resources(
        min(job.cpu_milli, victim.cpu_milli),
        min(job.ram_mib, victim.ram_mib),
        min(job.gpu_milli, victim.gpu_milli),
    )
    if not theirs.borrows(contested):
        return None
    if mine.is_guaranteed(job):
        return PreemptionRule.RECLAIM
    if victim_priority < priority and mine.dominant_share(plus=job) <= theirs.dominant_share(minus=victim):
        return PreemptionRule.FAIR_SHARE
    return None
