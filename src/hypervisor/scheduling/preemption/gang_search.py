"""Victims on several nodes for one deployment, where quotas decide and its organization has a limit.

Room is made replica by replica, each on the node where that costs least. If the organization would exceed its
limit, lower work of its own is evicted as well, on any node. At the end victims are reprieved, the most
important first. The rest is minimal: restoring any victim breaks the fit or the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.preemption.eviction_groups import GangRoom
from hypervisor.scheduling.preemption.eviction_rules import EvictionRules
from hypervisor.scheduling.preemption.group_candidates import (
    GroupCandidate,
    GroupCandidates,
    group_importance,
)
from hypervisor.scheduling.preemption.victims import Cost, cost

MOST_NODES = 128
"""Only so many nodes are searched, the most promising ones; at least twice as many as replicas."""


class GangPreemption:
    """Evicts groups from `room` until all replicas fit and the limit, exceeded by `over`, is kept."""

    def __init__(
        self,
        room: GangRoom,
        replicas: int,
        over: Resources,
        rules: EvictionRules,
        candidates: GroupCandidates,
    ) -> None:
        self._room = room
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
        return [one for one in evicted if not self._reprieve(one)]

    def _limit_is_reachable(self) -> bool:
        """Whether evicting all own candidates would keep the limit."""
        if self._over.is_zero:
            return True
        own = (
            one.usage.amount for one in self._candidates.of_organization(self._rules.preemptor.organization)
        )
        return _is_within(self._over - sum(own, Resources()))

    def _make_room(self, nodes: Sequence[int]) -> bool:
        """Make room for one more replica at a time, on the node where that costs least now."""
        heap = [(cost_now, node) for node in nodes if (cost_now := self._cost_on(node)) is not None]
        heapify(heap)
        while self._room.total < self._replicas:
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
        room, rules = self._room, self._rules.copy()
        before, evicted = int(room.counts[node]), []
        for one in self._candidates.on_node(node):
            legal = None if one.group.deployment_id in self._evicted else _with_rule(rules, one)
            if legal is None:
                continue
            room.evict(legal.group)
            evicted.append(legal)
            if room.counts[node] > before:
                break
        enough = room.counts[node] > before
        victims = []
        for one in reversed(evicted):
            room.restore(one.group)
            if enough and room.counts[node] <= before:
                room.evict(one.group)
                victims.append(one)
        for one in victims:
            room.restore(one.group)
        return victims if enough else None

    def _reach_limit(self) -> bool:
        """Evict own lower work, on any node, until the limit is kept."""
        own = self._rules.preemptor.organization
        for one in self._evicted.values():
            if one.usage.organization == own:
                self._over -= one.usage.amount
        for one in self._candidates.of_organization(own):
            if _is_within(self._over):
                break
            if one.group.deployment_id not in self._evicted and _reduces(self._over, one.usage.amount):
                legal = _with_rule(self._rules.copy(), one)
                if legal is not None:
                    self._evict([legal])
                    self._over -= legal.usage.amount
        return _is_within(self._over)

    def _evict(self, victims: Sequence[GroupCandidate]) -> None:
        for one in victims:
            self._rules.remove(one.usage)
            self._room.evict(one.group)
            self._evicted[one.group.deployment_id] = one

    def _reprieve(self, one: GroupCandidate) -> bool:
        """Restore the victim if all replicas still fit and the limit is still kept."""
        own = one.usage.organization == self._rules.preemptor.organization
        over = self._over + one.usage.amount if own else self._over
        self._room.restore(one.group)
        if self._room.total < self._replicas or not _is_within(over):
            self._room.evict(one.group)
            return False
        self._over = over
        return True


def _with_rule(rules: EvictionRules, one: GroupCandidate) -> GroupCandidate | None:
    """The candidate with its rule, removed from the usage that is judged; None if no rule allows it."""
    if one.is_nomination:
        if not rules.may_override(one.usage):
            return None
        rules.remove(one.usage)
        return one
    rule = rules.rule_for(one.usage)
    if rule is None:
        return None
    rules.remove(one.usage)
    return GroupCandidate(one.group, one.usage, rule=rule)


def _cost_of(victims: Sequence[GroupCandidate]) -> Cost:
    return cost([one.candidate for one in victims])


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
