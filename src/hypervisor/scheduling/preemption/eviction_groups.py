"""Deployments that are evicted as a whole: groups of candidates, and a minimal set of groups."""

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
    """Who yields together: every allocation of one deployment, or every nomination of one.

    `parts` are (node, candidate) pairs; a candidate holds all that its deployment has on that node.
    """

    deployment_id: int
    parts: tuple[tuple[int, EvictionCandidate], ...]

    @property
    def priority(self) -> int:
        return self.parts[0][1].priority

    @property
    def importance(self) -> tuple[int, float, float, int]:
        """Sorts the most important first, as `EvictionCandidate.importance` does for one."""
        return min(part.importance for _, part in self.parts)


class GangRoom:
    """How many replicas of one gang fit while parties come and go: on each node (`counts`) and in `total`."""

    def __init__(self, request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> None:
        self._request = request
        self._eligible = eligible
        self._cpu, self._ram, self._gpu = cpu.copy(), ram.copy(), gpu.copy()
        self.counts = replicas_per_node(request, eligible, cpu, ram, gpu)
        self.total = int(self.counts.sum())

    def counts_with(self, cpu: Int64, ram: Int64, gpu: Int64) -> Int64:
        """How many replicas each node could take with so much more room."""
        return replicas_per_node(
            self._request, self._eligible, self._cpu + cpu, self._ram + ram, self._gpu + gpu
        )

    def evict(self, party: EvictionGroup) -> None:
        """The party has gone."""
        self._apply(party, 1)

    def restore(self, party: EvictionGroup) -> None:
        """The party is back."""
        self._apply(party, -1)

    def _apply(self, party: EvictionGroup, sign: int) -> None:
        for node, part in party.parts:
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
    room: GangRoom, replicas: int, parties: Sequence[EvictionGroup]
) -> list[EvictionGroup] | None:
    """A minimal set of parties whose going makes all replicas fit; `room` has all parties in place.

    As few priorities are touched as possible: the lowest ones go, up to the first at which it fits. Then
    whoever may return does, the most important first. None if it would not fit with all of them gone.
    """
    going: list[EvictionGroup] = []
    waiting = sorted(parties, key=lambda party: party.importance, reverse=True)
    level: int | None = None
    for party in waiting:
        if room.total >= replicas and party.priority != level:
            break
        level = party.priority
        room.evict(party)
        going.append(party)
    if room.total < replicas:
        return None
    victims = []
    for party in sorted(going, key=lambda party: party.importance):
        room.restore(party)
        if room.total < replicas:
            room.evict(party)
            victims.append(party)
    return victims


def rows_by_gang(table: AllocationTable) -> dict[int, tuple[int, ...]]:
    """For each row whose deployment holds several rows, all of them; empty where there are no gangs."""
    ids = table.deployment_id
    order = np.argsort(ids, kind="stable")
    ranked = ids[order]
    twin = ranked[1:] == ranked[:-1]
    if not twin.any():
        return {}
    found: dict[int, tuple[int, ...]] = {}
    starts = np.flatnonzero(np.concatenate(([True], ~twin)))
    ends = np.append(starts[1:], len(ranked))
    several = ends - starts > 1
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        rows = tuple(sorted(order[start:end].tolist(), key=lambda row: int(table.id[row])))
        found.update(dict.fromkeys(rows, rows))
    return found


def merge_candidates(parts: Sequence[EvictionCandidate], lost: float, started_at: float) -> EvictionCandidate:
    """What a gang has on one node as a single candidate; `lost` and `started_at` are of the whole gang."""
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
