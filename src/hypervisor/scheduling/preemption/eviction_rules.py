"""The rule for each of several victims of one preemptor, chosen one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.legality import applicable_rule
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, QuotaUsage


@dataclass(frozen=True, slots=True)
class Preemptor:
    """The deployment that needs capacity. `demand` is the amount of all its replicas.

    `quota_usage` is that of its organization when the search begins; None without quotas. It does not change
    while victims are chosen: victims of its own organization may be reprieved.
    """

    deployment_id: int
    organization: int
    priority: int
    rank: int
    demand: Resources
    quota_usage: QuotaUsage | None


@dataclass(frozen=True, slots=True)
class VictimUsage:
    """The input of the rules about a victim: organization, amount (of the whole gang), priority."""

    organization: int
    amount: Resources
    priority: int


class EvictionRules:
    """Finds the rule for each victim, by the usage of its organization without the victims chosen before.

    A victim chosen before may be reprieved later. Its organization then uses more, so the others stay legal.
    """

    def __init__(
        self, preemptor: Preemptor, ledger: QuotaLedger | None, usages: Mapping[int, QuotaUsage] | None = None
    ) -> None:
        self.preemptor = preemptor
        self._ledger = ledger
        self._usages = dict(usages or {})

    def copy(self) -> EvictionRules:
        """A copy; victims removed there are not removed here."""
        return EvictionRules(self.preemptor, self._ledger, self._usages)

    def rule_for(self, usage: VictimUsage) -> PreemptionRule | None:
        """The rule by which running work may be evicted, or None if it may not."""
        preemptor = self.preemptor
        if self._ledger is None or preemptor.quota_usage is None:
            return PreemptionRule.PRIORITY if usage.priority < preemptor.priority else None
        return applicable_rule(
            same_organization=usage.organization == preemptor.organization,
            preemptor_usage=preemptor.quota_usage,
            demand=preemptor.demand,
            priority=preemptor.priority,
            victim_usage=self._usage_of(self._ledger, usage.organization),
            victim=usage.amount,
            victim_priority=usage.priority,
        )

    def may_override(self, usage: VictimUsage) -> bool:
        """Whether a lower-ranked nomination may be overridden.

        Within one organization always; across organizations if an eviction would be legal.
        """
        if self._ledger is None or usage.organization == self.preemptor.organization:
            return True
        return self.rule_for(usage) is not None

    def remove(self, usage: VictimUsage) -> None:
        """Subtract this victim from the usage for the next victims."""
        if self._ledger is not None:
            before = self._usage_of(self._ledger, usage.organization)
            self._usages[usage.organization] = replace(before, usage=before.usage - usage.amount)

    def _usage_of(self, ledger: QuotaLedger, organization: int) -> QuotaUsage:
        return self._usages.get(organization) or ledger.projected(organization)
