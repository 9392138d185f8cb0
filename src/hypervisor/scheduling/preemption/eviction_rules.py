"""By which rule each of several victims may go for one deployment, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.legality import applicable_rule
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, QuotaUsage


@dataclass(frozen=True, slots=True)
class Preemptor:
    """Who wants a place: `job` is what all its replicas hold.

    `account` is its organization's as the search begins (None where nothing is shared). It stays that while
    victims are chosen: its own work may be among them, and may stay after all.
    """

    deployment_id: int
    organization: int
    priority: int
    rank: int
    demand: Resources
    quota_usage: QuotaUsage | None


@dataclass(frozen=True, slots=True)
class VictimUsage:
    """What is judged of a victim: whose it is, what goes with it (a gang whole), and its priority."""

    organization: int
    amount: Resources
    priority: int


class EvictionRules:
    """Judges each victim by what its organization has left without those let go before it.

    Whoever was let go may stay after all: with more left, the others may still go.
    """

    def __init__(
        self, asker: Preemptor, shares: QuotaLedger | None, accounts: Mapping[int, QuotaUsage] | None = None
    ) -> None:
        self.preemptor = asker
        self._shares = shares
        self._accounts = dict(accounts or {})

    def copy(self) -> EvictionRules:
        """One that may let others go without this one taking notice."""
        return EvictionRules(self.preemptor, self._shares, self._accounts)

    def rule_for(self, stake: VictimUsage) -> PreemptionRule | None:
        """The rule by which running work may be evicted, or None if it may not."""
        asker = self.preemptor
        if self._shares is None or asker.quota_usage is None:
            return PreemptionRule.PRIORITY if stake.priority < asker.priority else None
        return applicable_rule(
            same_organization=stake.organization == asker.organization,
            mine=asker.quota_usage,
            job=asker.demand,
            priority=asker.priority,
            theirs=self._account(self._shares, stake.organization),
            victim=stake.amount,
            victim_priority=stake.priority,
        )

    def may_override(self, stake: VictimUsage) -> bool:
        """Whether a nomination that ranks lower has to give way: any of its own organization, and of
        another one where an eviction were legal."""
        if self._shares is None or stake.organization == self.preemptor.organization:
            return True
        return self.rule_for(stake) is not None

    def remove(self, stake: VictimUsage) -> None:
        """Judge the next ones without this."""
        if self._shares is not None:
            account = self._account(self._shares, stake.organization)
            self._accounts[stake.organization] = replace(account, usage=account.usage - stake.amount)

    def _account(self, shares: QuotaLedger, organization: int) -> QuotaUsage:
        return self._accounts.get(organization) or shares.projected(organization)
