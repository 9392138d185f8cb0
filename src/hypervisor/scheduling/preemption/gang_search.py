"""Victims on several nodes for one deployment, where quotas decide and its organization has a limit.

Room is made for one replica after the other, on the node where that costs least. If the organization would
exceed its limit, its own lower work is evicted as well, on any node. At the end victims are reprieved, the
most important first. The rest is minimal: restoring any victim breaks the fit or the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.preemption.eviction_groups import GangEvictionTrial
from hypervisor.scheduling.preemption.eviction_rules import EvictionRules
from hypervisor.scheduling.preemption.group_candidates import (
    GroupCandidate,
    GroupCandidates,
    group_importance,
)
from hypervisor.scheduling.preemption.victims import Cost, cost

MOST_NODES = 128
"""The number of nodes to search, the most promising ones; at least twice as many as replicas."""


class GangPreemption:
    """Evicts groups until all replicas fit and the limit, exceeded by `over`, is kept."""

    def __init__(
        self,
        trial: GangEvictionTrial,
        replicas: int,
        over: Resources,
        rules: EvictionRules,
        candidates: GroupCandidates,
    ) -> None:
        self._trial = trial
        self._replicas = replicas
        self._over = over
        self._rules = rules
        self._candidates = candidates
        self._evicted: dict[int, GroupCandidate] = {}

    def find_victims(self, nodes: Sequence[int]) -> list[GroupCandidate] | None:
        """A minimal set of victims with their rules; None if these nodes or the limit do not allow one."""
        if not self._limit_is_reachable() or not self._make_room(nodes) or not self._reach_limit():
            return None
        evicted = sorted(self._evicted.values(), key=group_importance)
        return [candidate for candidate in evicted if not self._reprieve(candidate)]

    def _limit_is_reachable(self) -> bool:
        """Whether evicting all own candidates would keep the limit."""
        if self._over.is_zero:
            return True
        own = (
            candidate.usage.amount
            for candidate in self._candidates.of_organization(self._rules.preemptor.organization)
        )
        return _is_within(self._over - sum(own, Resources()))

    def _make_room(self, nodes: Sequence[int]) -> bool:
        """Make room for one more replica at a time, on the node where that costs least now."""
        heap = [(cost_now, node) for node in nodes if (cost_now := self._cost_on(node)) is not None]
        heapify(heap)
        while self._trial.total < self._replicas:
            if not heap:
                return False
            cost_before, node = heappop(heap)
            victims = self._needed_on(node)
            if victims is None:
                continue
            cost_now = _cost_of(victims)
            if cost_now <= cost_before:
                self._evict(victims)
            heappush(heap, (cost_now, node))
        return True

    def _cost_on(self, node: int) -> Cost | None:
        victims = self._needed_on(node)
        return None if victims is None else _cost_of(victims)

    def _needed_on(self, node: int) -> list[GroupCandidate] | None:
        """A minimal set that makes room for one more replica there. Nothing is evicted yet."""
        trial, rules = self._trial, self._rules.copy()
        before, evicted = int(trial.counts[node]), []
        for candidate in self._candidates.on_node(node):
            legal = None if candidate.group.deployment_id in self._evicted else _with_rule(rules, candidate)
            if legal is None:
                continue
            trial.evict(legal.group)
            evicted.append(legal)
            if trial.counts[node] > before:
                break
        enough = trial.counts[node] > before
        victims = []
        for candidate in reversed(evicted):
            trial.restore(candidate.group)
            if enough and trial.counts[node] <= before:
                trial.evict(candidate.group)
                victims.append(candidate)
        for candidate in victims:
            trial.restore(candidate.group)
        return victims if enough else None

    def _reach_limit(self) -> bool:
        """Evict own lower work, on any node, until the limit is kept."""
        own = self._rules.preemptor.organization
        for candidate in self._evicted.values():
            if candidate.usage.organization == own:
                self._over -= candidate.usage.amount
        for candidate in self._candidates.of_organization(own):
            if _is_within(self._over):
                break
            if candidate.group.deployment_id not in self._evicted and _reduces(
                self._over, candidate.usage.amount
            ):
                legal = _with_rule(self._rules.copy(), candidate)
                if legal is not None:
                    self._evict([legal])
                    self._over -= legal.usage.amount
        return _is_within(self._over)

    def _evict(self, victims: Sequence[GroupCandidate]) -> None:
        for candidate in victims:
            self._rules.remove(candidate.usage)
            self._trial.evict(candidate.group)
            self._evicted[candidate.group.deployment_id] = candidate

    def _reprieve(self, candidate: GroupCandidate) -> bool:
        """Restore the victim if all replicas still fit and the limit is still kept."""
        own = candidate.usage.organization == self._rules.preemptor.organization
        over = self._over + candidate.usage.amount if own else self._over
        self._trial.restore(candidate.group)
        if self._trial.total < self._replicas or not _is_within(over):
            self._trial.evict(candidate.group)
            return False
        self._over = over
        return True


def _with_rule(rules: EvictionRules, candidate: GroupCandidate) -> GroupCandidate | None:
    """The candidate with its rule, None without a rule. Subtracts it from the usage for the next ones."""
    if candidate.is_nomination:
        if not rules.may_override(candidate.usage):
            return None
        rules.remove(candidate.usage)
        return candidate
    rule = rules.rule_for(candidate.usage)
    if rule is None:
        return None
    rules.remove(candidate.usage)
    return GroupCandidate(candidate.group, candidate.usage, rule=rule)


def _cost_of(victims: Sequence[GroupCandidate]) -> Cost:
    return cost([candidate.candidate for candidate in victims])


def _is_within(over: Resources) -> bool:
    """Whether the limit is kept. Below it the amounts are negative."""
    return max(over.cpu_milli, over.ram_mib, over.gpu_milli) <= 0


def _reduces(over: Resources, amount: Resources) -> bool:
    """Whether the amount lowers some excess."""
    return bool(
        (over.cpu_milli > 0 and amount.cpu_milli)
        or (over.ram_mib > 0 and amount.ram_mib)
        or (over.gpu_milli > 0 and amount.gpu_milli)
    )
