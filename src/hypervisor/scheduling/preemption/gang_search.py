"""Victims for one deployment where it matters whose work they are, and how much its organization may use.

Room is made replica by replica, each on the node where that costs least, as for a single deployment. What the
organization would use above its limit is made up for by its own lower work, wherever that runs. In the end
whoever may return does, the most important first: putting any of the rest back breaks the fit or the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.eviction_rules import EvictionRules, VictimUsage
from hypervisor.scheduling.preemption.gang import EvictionGroup, GangRoom
from hypervisor.scheduling.preemption.legality import PreemptionRule
from hypervisor.scheduling.preemption.victims import Cost, EvictionCandidate, cost
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64

MOST_NODES = 128
"""How many nodes are looked at, the most promising first; or twice the replicas where those are more."""


@dataclass(frozen=True, slots=True)
class GroupCandidate:
    """A party that could go, and what is judged of it; `rule` is None for a nomination."""

    group: EvictionGroup
    usage: VictimUsage
    is_nomination: bool = False
    rule: PreemptionRule | None = None

    @property
    def candidate(self) -> EvictionCandidate:
        """One of its parts; what would be lost is that of all."""
        return self.group.parts[0][1]


class GroupCandidates:
    """Who could go for one deployment: running work in `chosen`, and nominations that rank lower."""

    def __init__(
        self,
        candidates: EvictionCandidates,
        chosen: Bool,
        nominations: Sequence[GroupCandidate],
        stake_of: Callable[[EvictionCandidate], VictimUsage],
    ) -> None:
        self.chosen = chosen
        self.nominations = nominations
        self._candidates = candidates
        self._stake_of = stake_of
        self._on: dict[int, list[GroupCandidate]] = {}

    def on_node(self, node: int) -> list[GroupCandidate]:
        """Those that hold something on the node, the least important first."""
        found = self._on.get(node)
        if found is None:
            running = [item for item in self._candidates.on_node(node) if self.chosen[item.row]]
            found = [self._running(self._candidates.group_of(item)) for item in running]
            found += [one for one in self.nominations if any(at == node for at, _ in one.group.parts)]
            found.sort(key=_importance, reverse=True)
            self._on[node] = found
        return found

    def of_organization(self, organization: int) -> list[GroupCandidate]:
        """All of one organization, the least important first."""
        rows = self.chosen & (self._candidates.table.organization == organization)
        found = [self._running(party) for party in self._candidates.groups(rows)]
        found += [one for one in self.nominations if one.usage.organization == organization]
        return sorted(found, key=_importance, reverse=True)

    def held_resources(self, state: WorkingState) -> tuple[Int64, Int64, Int64]:
        """What all of them hold: CPU and RAM per node, milli-GPU per node and device."""
        cpu, ram, gpu = state.usage_of(self._candidates.table, self.chosen)
        for one in self.nominations:
            for node, part in one.group.parts:
                cpu[node] += part.cpu
                ram[node] += part.ram
                gpu[node, list(part.devices)] += part.milli_per_device
        return cpu, ram, gpu

    def promising_nodes(self, more: Int64, most: int) -> list[int]:
        """Nodes on which `more` replicas (per node) would fit, those with the least important work first."""
        table = self._candidates.table
        least = np.full(len(more), np.iinfo(np.int64).max)
        np.minimum.at(least, table.node[self.chosen], table.priority[self.chosen])
        for one in self.nominations:
            for node, part in one.group.parts:
                least[node] = min(int(least[node]), part.priority)
        nodes = np.flatnonzero(more > 0)
        ordered: list[int] = nodes[np.argsort(least[nodes], kind="stable")].tolist()
        return ordered[:most]

    def _running(self, party: EvictionGroup) -> GroupCandidate:
        return GroupCandidate(party, self._stake_of(party.parts[0][1]))


class GangPreemption:
    """Lets parties go from `room` until all replicas fit and the limit is kept, exceeded by `over` so far."""

    def __init__(
        self, room: GangRoom, replicas: int, over: Resources, judge: EvictionRules, yielders: GroupCandidates
    ) -> None:
        self._room = room
        self._replicas = replicas
        self._over = over
        self._judge = judge
        self._yielders = yielders
        self._gone: dict[int, GroupCandidate] = {}

    def find_victims(self, nodes: Sequence[int]) -> list[GroupCandidate] | None:
        """A minimal set, each with its rule; None if there is no room on these nodes, or below the limit."""
        if not self._limit_in_reach() or not self._make_room(nodes) or not self._go_below_limit():
            return None
        going = sorted(self._gone.values(), key=_importance)
        return [one for one in going if not self._may_return(one)]

    def _limit_in_reach(self) -> bool:
        """Whether the limit were kept if all of its own that could go went."""
        if self._over.is_zero:
            return True
        own = (one.usage.amount for one in self._yielders.of_organization(self._judge.preemptor.organization))
        return _kept(self._over - sum(own, Resources()))

    def _make_room(self, nodes: Sequence[int]) -> bool:
        """One more replica at a time, on the node where that costs least by now."""
        heap = [(price, node) for node in nodes if (price := self._price(node)) is not None]
        heapify(heap)
        while self._room.total < self._replicas:
            if not heap:
                return False
            known, node = heappop(heap)
            victims = self._needed_on(node)
            if victims is None:
                continue
            price = _price_of(victims)
            if price <= known:
                self._let_go(victims)
            heappush(heap, (price, node))
        return True

    def _price(self, node: int) -> Cost | None:
        victims = self._needed_on(node)
        return None if victims is None else _price_of(victims)

    def _needed_on(self, node: int) -> list[GroupCandidate] | None:
        """A minimal set that makes room for one more replica there; everybody is in place afterwards."""
        room, judge = self._room, self._judge.copy()
        before, going = int(room.counts[node]), []
        for one in self._yielders.on_node(node):
            judged = None if one.group.deployment_id in self._gone else _judged(judge, one)
            if judged is None:
                continue
            room.evict(judged.group)
            going.append(judged)
            if room.counts[node] > before:
                break
        enough = room.counts[node] > before
        victims = []
        for one in reversed(going):
            room.restore(one.group)
            if enough and room.counts[node] <= before:
                room.evict(one.group)
                victims.append(one)
        for one in victims:
            room.restore(one.group)
        return victims if enough else None

    def _go_below_limit(self) -> bool:
        """Let own lower work go, wherever it runs, until the limit is kept."""
        own = self._judge.preemptor.organization
        for one in self._gone.values():
            if one.usage.organization == own:
                self._over -= one.usage.amount
        for one in self._yielders.of_organization(own):
            if _kept(self._over):
                break
            if one.group.deployment_id not in self._gone and _lessens(self._over, one.usage.amount):
                judged = _judged(self._judge.copy(), one)
                if judged is not None:
                    self._let_go([judged])
                    self._over -= judged.usage.amount
        return _kept(self._over)

    def _let_go(self, victims: Sequence[GroupCandidate]) -> None:
        for one in victims:
            self._judge.remove(one.usage)
            self._room.evict(one.group)
            self._gone[one.group.deployment_id] = one

    def _may_return(self, one: GroupCandidate) -> bool:
        """Put it back if all replicas still fit and the limit is still kept."""
        own = one.usage.organization == self._judge.preemptor.organization
        over = self._over + one.usage.amount if own else self._over
        self._room.restore(one.group)
        if self._room.total < self._replicas or not _kept(over):
            self._room.evict(one.group)
            return False
        self._over = over
        return True


def _judged(judge: EvictionRules, one: GroupCandidate) -> GroupCandidate | None:
    """It with its rule, let go; None if it may not go."""
    if one.is_nomination:
        if not judge.may_override(one.usage):
            return None
        judge.remove(one.usage)
        return one
    rule = judge.rule_for(one.usage)
    if rule is None:
        return None
    judge.remove(one.usage)
    return GroupCandidate(one.group, one.usage, rule=rule)


def _importance(one: GroupCandidate) -> tuple[int, float, float, int]:
    return one.group.importance


def _price_of(victims: Sequence[GroupCandidate]) -> Cost:
    return cost([one.candidate for one in victims])


def _kept(over: Resources) -> bool:
    """Whether the limit is kept; below it the amounts are negative."""
    return max(over.cpu_milli, over.ram_mib, over.gpu_milli) <= 0


def _lessens(over: Resources, amount: Resources) -> bool:
    """Whether the amount has some of what is too much."""
    return bool(
        (over.cpu_milli > 0 and amount.cpu_milli)
        or (over.ram_mib > 0 and amount.ram_mib)
        or (over.gpu_milli > 0 and amount.gpu_milli)
    )
