"""Groups of candidates that are evicted together, and the choice of a minimal set of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hypervisor.scheduling.capacity.replicas import replicas_per_node
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Bool, Int64


@dataclass(frozen=True, slots=True)
class EvictionGroup:
    """All allocations or all nominations of one deployment. They are evicted or overridden together.

    `parts` are (node, candidate) pairs. A candidate covers everything of its deployment on that node.
    """

    deployment_id: int
    parts: tuple[tuple[int, EvictionCandidate], ...]

    @property
    def priority(self) -> int:
        """The priority of its deployment."""
        return self.parts[0][1].priority

    @property
    def importance(self) -> tuple[int, float, float, int]:
        """Sort key: the most important first, as `EvictionCandidate.importance`."""
        return min(part.importance for _, part in self.parts)


class GangEvictionTrial:
    """How many replicas of one gang fit while groups are evicted and restored, per node and in total."""

    def __init__(self, request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> None:
        self._request = request
        self._eligible = eligible
        self._cpu, self._ram, self._gpu = cpu.copy(), ram.copy(), gpu.copy()
        self.counts = replicas_per_node(request, eligible, cpu, ram, gpu)
        self.total = int(self.counts.sum())

    def counts_with(self, cpu: Int64, ram: Int64, gpu: Int64) -> Int64:
        """How many replicas each node could take with this additional capacity."""
        return replicas_per_node(
            self._request, self._eligible, self._cpu + cpu, self._ram + ram, self._gpu + gpu
        )

    def evict(self, group: EvictionGroup) -> None:
        """Free the capacity of the group."""
        self._apply(group, 1)

    def restore(self, group: EvictionGroup) -> None:
        """Undo `evict`."""
        self._apply(group, -1)

    def _apply(self, group: EvictionGroup, sign: int) -> None:
        for node, part in group.parts:
            self._cpu[node] += sign * part.cpu
            self._ram[node] += sign * part.ram
            for device in part.devices:
                self._gpu[node, device] += sign * part.milli_per_device
            after = self._count(node)
            self.total += after - int(self.counts[node])
            self.counts[node] = after

    def _count(self, node: int) -> int:
        one = slice(node, node + 1)
        count = replicas_per_node(
            self._request, self._eligible[one], self._cpu[one], self._ram[one], self._gpu[one]
        )
        return int(count[0])


def choose_victim_groups(
    trial: GangEvictionTrial, replicas: int, groups: Sequence[EvictionGroup]
) -> list[EvictionGroup] | None:
    """A minimal set of groups that makes all replicas fit; None if evicting all groups does not.

    `trial` starts with all groups in place. The lowest priorities are evicted first, up to the first one at
    which the gang fits. Then groups are reprieved, the most important first.
    """
    evicted: list[EvictionGroup] = []
    ascending = sorted(groups, key=lambda group: group.importance, reverse=True)
    level: int | None = None
    for group in ascending:
        if trial.total >= replicas and group.priority != level:
            break
        level = group.priority
        trial.evict(group)
        evicted.append(group)
    if trial.total < replicas:
        return None
    victims = []
    for group in sorted(evicted, key=lambda group: group.importance):
        trial.restore(group)
        if trial.total < replicas:
            trial.evict(group)
            victims.append(group)
    return victims


def rows_by_gang(table: AllocationTable) -> dict[int, tuple[int, ...]]:
    """All rows of the deployment, for each row of a deployment with several rows."""
    ids = table.deployment_id
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    same_as_next = ranked[1:] == ranked[:-1]
    if not same_as_next.any():
        return {}
    found: dict[int, tuple[int, ...]] = {}
    starts = np.flatnonzero(np.concatenate(([True], ~same_as_next)))
    ends = np.append(starts[1:], len(ranked))
    is_gang = ends - starts > 1
    for start, end in zip(starts[is_gang].tolist(), ends[is_gang].tolist(), strict=True):
        rows = tuple(sorted(order[start:end].tolist(), key=lambda row: int(table.id[row])))
        found.update(dict.fromkeys(rows, rows))
    return found


def merge_candidates(parts: Sequence[EvictionCandidate], lost: float, started_at: float) -> EvictionCandidate:
    """One candidate for all parts of a gang on a node. `lost` and `started_at` apply to the whole gang."""
    return EvictionCandidate(
        row=parts[0].row,
        id=min(part.id for part in parts),
        priority=parts[0].priority,
        lost_work=lost,
        started_at=started_at,
        cpu=sum(part.cpu for part in parts),
        ram=sum(part.ram for part in parts),
        devices=tuple(device for part in parts for device in part.devices),
        milli_per_device=parts[0].milli_per_device,
    )
