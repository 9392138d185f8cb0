"""Groups that could be evicted for one deployment on a shared cluster: running work and lower nominations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.eviction_groups import EvictionGroup
from hypervisor.scheduling.preemption.eviction_rules import VictimUsage
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64


@dataclass(frozen=True, slots=True)
class GroupCandidate:
    """A group that could be evicted, and the usage for the rules. `rule` is None for nominations."""

    group: EvictionGroup
    usage: VictimUsage
    is_nomination: bool = False
    rule: PreemptionRule | None = None

    @property
    def candidate(self) -> EvictionCandidate:
        """The first part of the group; `lost_work` is that of the whole group."""
        return self.group.parts[0][1]


class GroupCandidates:
    """The candidates for one deployment: running work in the mask `chosen`, and lower-ranked nominations."""

    def __init__(
        self,
        candidates: EvictionCandidates,
        chosen: Bool,
        nominations: Sequence[GroupCandidate],
        usage_of: Callable[[EvictionCandidate], VictimUsage],
    ) -> None:
        self.chosen = chosen
        self.nominations = nominations
        self._candidates = candidates
        self._usage_of = usage_of
        self._by_node: dict[int, list[GroupCandidate]] = {}

    def on_node(self, node: int) -> list[GroupCandidate]:
        """The candidates with a part on the node, the least important first."""
        found = self._by_node.get(node)
        if found is None:
            running = [item for item in self._candidates.on_node(node) if self.chosen[item.row]]
            found = [self._running(self._candidates.group_of(item)) for item in running]
            found += [
                candidate
                for candidate in self.nominations
                if any(at == node for at, _ in candidate.group.parts)
            ]
            found.sort(key=group_importance, reverse=True)
            self._by_node[node] = found
        return found

    def of_organization(self, organization: int) -> list[GroupCandidate]:
        """The candidates of one organization, the least important first."""
        rows = self.chosen & (self._candidates.table.organization == organization)
        found = [self._running(group) for group in self._candidates.groups(rows)]
        found += [candidate for candidate in self.nominations if candidate.usage.organization == organization]
        return sorted(found, key=group_importance, reverse=True)

    def held_resources(self, capacity: WorkingState) -> tuple[Int64, Int64, Int64]:
        """The use by all candidates: CPU and RAM per node, milli-GPU per node and device."""
        cpu, ram, gpu = capacity.usage_of(self._candidates.table, self.chosen)
        for candidate in self.nominations:
            for node, part in candidate.group.parts:
                cpu[node] += part.cpu
                ram[node] += part.ram
                gpu[node, list(part.devices)] += part.milli_per_device
        return cpu, ram, gpu

    def promising_nodes(self, more: Int64, most: int) -> list[int]:
        """Nodes on which more replicas would fit, ordered by their least important candidates."""
        table = self._candidates.table
        least = np.full(len(more), np.iinfo(np.int64).max)
        np.minimum.at(least, table.node[self.chosen], table.priority[self.chosen])
        for candidate in self.nominations:
            for node, part in candidate.group.parts:
                least[node] = min(int(least[node]), part.priority)
        nodes = np.flatnonzero(more > 0)
        ordered: list[int] = nodes[np.argsort(least[nodes], kind="stable")].tolist()
        return ordered[:most]

    def _running(self, group: EvictionGroup) -> GroupCandidate:
        return GroupCandidate(group, self._usage_of(group.parts[0][1]))


def group_importance(candidate: GroupCandidate) -> tuple[int, float, float, int]:
    """Sort key: the most important first."""
    return candidate.group.importance
