"""Reprieving victims that need not be evicted after all (the term is kube-scheduler's).

The victims of one preemptor are a minimal set when they are chosen. A later preemptor of the same pass may
evict more on the node than it uses, so an earlier victim may fit again. At the end of a pass the victims are
examined again, the most important first. A victim stays if its capacity and its own devices are still
available beside everything placed and nominated. A gang stays whole or not at all.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.plan_result import Reprieved
from hypervisor.scheduling.preemption.eviction_groups import EvictionGroup
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, allocated
from hypervisor.scheduling.snapshots.snapshot import Bool

REPRIEVED_LATE = "fits beside the preemptor after other evictions"


def reprieve_victims(state: PassState) -> None:
    """Revoke the evictions of this pass that no placement or nomination depends on."""
    if not state.evictions:
        return
    chosen = _promising(state)
    if not chosen.any():
        return
    reprieve = _Reprieve(state)
    for group in sorted(state.candidates.groups(chosen), key=lambda group: group.importance):
        reprieve.consider(group)
    if reprieve.staying:
        _record(state, reprieve.staying)


def _promising(state: PassState) -> Bool:
    """The evicted allocations whose CPU and RAM fit, each tested alone: a quick test before the exact one."""
    table, capacity = state.snapshot.allocations, state.capacity
    chosen = np.isin(table.id, [eviction.allocation_id for eviction in state.evictions])
    chosen &= (capacity.idle_cpu + capacity.releasing_cpu)[table.node] >= table.cpu_milli
    chosen &= (capacity.idle_ram + capacity.releasing_ram)[table.node] >= table.ram_mib
    return chosen


class _Reprieve:
    """Reprieves groups one by one; `staying` are the ids of their deployments."""

    def __init__(self, state: PassState) -> None:
        self._state = state
        self.staying: set[int] = set()
        self._owners = _OwnerCheck(state, ledger) if (ledger := state.quotas.ledger) else None

    def consider(self, group: EvictionGroup) -> None:
        """Reprieve the group if all its allocations still fit, and the quotas allow it."""
        if not all(self._fits(node, part) for node, part in group.parts):
            return
        victim = group.parts[0][1]
        if self._owners is not None and not self._owners.admit(victim):
            return
        self._state.candidates.restore(victim)
        self.staying.add(group.deployment_id)

    def _fits(self, node: int, part: EvictionCandidate) -> bool:
        capacity = self._state.capacity
        if capacity.idle_cpu[node] + capacity.releasing_cpu[node] < part.cpu:
            return False
        if capacity.idle_ram[node] + capacity.releasing_ram[node] < part.ram:
            return False
        available = capacity.idle_gpu[node] + capacity.releasing_gpu[node]
        return all(
            available[device] >= count * part.milli_per_device
            for device, count in Counter(part.devices).items()
        )


class _OwnerCheck:
    """Shared clusters: the usage that made an eviction legal must not grow again.

    So no victim stays of an organization that evicted work of another organization in this pass. No
    organization may exceed its limit with its reprieved victims.
    """

    def __init__(self, state: PassState, ledger: QuotaLedger) -> None:
        self._ledger = ledger
        self._gangs = state.candidates.gangs
        table, pending = state.snapshot.allocations, state.snapshot.pending
        self._organization = table.organization
        self._amounts = allocated(state.snapshot)
        preempting = dict(zip(pending.deployment_id.tolist(), pending.organization.tolist(), strict=True))
        evicted = dict(zip(table.id.tolist(), table.organization.tolist(), strict=True))
        self._takers = {
            preempting[one.preemptor_id]
            for one in state.evictions
            if preempting[one.preemptor_id] != evicted[one.allocation_id]
        }

    def admit(self, victim: EvictionCandidate) -> bool:
        """Whether the victim, a gang whole, may stay. If so, the ledger counts it as used again."""
        organization = int(self._organization[victim.row])
        rows = list(self._gangs.get(victim.row, (victim.row,)))
        amount = Resources(*self._amounts[rows].sum(axis=0).tolist())
        usage = self._ledger.projected(organization)
        if organization in self._takers or not usage.over_limit(amount).is_zero:
            return False
        self._ledger.record_nomination(organization, amount)
        return True


def _record(state: PassState, staying: set[int]) -> None:
    """Remove the evictions from the plan, and record the victims that stay as reprieved."""
    preemptor = {one.deployment_id: one.preemptor_id for one in state.evictions}
    state.evictions = [one for one in state.evictions if one.deployment_id not in staying]
    evicting = {one.preemptor_id for one in state.evictions}
    listed: dict[int, tuple[Reprieved, ...]] = {}
    for id_, reprieved in state.reprieved.items():
        if id_ in evicting:
            kept = [one for one in reprieved if one.deployment_id not in staying]
            late = {one.deployment_id for one in reprieved} & staying
            late |= {victim for victim in staying if preemptor[victim] == id_}
            listed[id_] = (*kept, *(Reprieved(victim, REPRIEVED_LATE) for victim in sorted(late)))
    state.reprieved = listed
