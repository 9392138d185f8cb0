"""Victims that need not go after all: the last step of a pass.

The victims of one preemptor are a minimal set when they are chosen. A later preemptor of the same pass may
evict more on the node than it takes itself, and then somebody evicted before could have stayed. So in the end
the victims are gone through once more, the most important first, and whoever still finds its room, its own
devices included, beside everything that was placed and nominated, stays. A gang stays whole or not at all.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.plan_result import Reprieved
from hypervisor.scheduling.preemption.gang import EvictionGroup
from hypervisor.scheduling.preemption.victims import EvictionCandidate
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, allocated
from hypervisor.scheduling.snapshots.snapshot import Bool

if TYPE_CHECKING:
    from hypervisor.scheduling.passes.pass_state import PassState

REPRIEVED_LATE = "fits beside the preemptor now that others have to go"


def reprieve_victims(admission: PassState) -> None:
    """Take back the evictions of this pass that nothing depends on."""
    if not admission.evictions:
        return
    chosen = _promising(admission)
    if not chosen.any():
        return
    back = _Return(admission)
    for party in sorted(admission.candidates.groups(chosen), key=lambda party: party.importance):
        back.consider(party)
    if back.staying:
        _tell(admission, back.staying)


def _promising(admission: PassState) -> Bool:
    """The evicted allocations that find CPU and RAM, each for itself: a quick look before the exact one."""
    table, state = admission.snapshot.allocations, admission.capacity
    chosen = np.isin(table.id, [eviction.allocation_id for eviction in admission.evictions])
    chosen &= (state.idle_cpu + state.releasing_cpu)[table.node] >= table.cpu_milli
    chosen &= (state.idle_ram + state.releasing_ram)[table.node] >= table.ram_mib
    return chosen


class _Return:
    """Lets victims stay one by one; `staying` are the ids of their deployments."""

    def __init__(self, admission: PassState) -> None:
        self._pass = admission
        self.staying: set[int] = set()
        self._owners = _Owners(admission, shares) if (shares := admission.tenancy.ledger) else None

    def consider(self, party: EvictionGroup) -> None:
        """Let the party stay if all that it holds still fits, and its organization's accounts allow it."""
        if not all(self._fits(node, part) for node, part in party.parts):
            return
        victim = party.parts[0][1]
        if self._owners is not None and not self._owners.admit(victim):
            return
        self._pass.candidates.restore(victim)
        self.staying.add(party.deployment_id)

    def _fits(self, node: int, part: EvictionCandidate) -> bool:
        state = self._pass.capacity
        if state.idle_cpu[node] + state.releasing_cpu[node] < part.cpu:
            return False
        if state.idle_ram[node] + state.releasing_ram[node] < part.ram:
            return False
        room = state.idle_gpu[node] + state.releasing_gpu[node]
        return all(
            room[device] >= count * part.milli_per_device for device, count in Counter(part.devices).items()
        )


class _Owners:
    """On a shared cluster: nobody stays whose usage an eviction was judged by.

    Those are organizations that have taken from another one in this pass, by their guarantee or by their
    share. And with what stays, no organization may be above its limit.
    """

    def __init__(self, admission: PassState, shares: QuotaLedger) -> None:
        self._shares = shares
        self._gangs = admission.candidates.gangs
        table, pending = admission.snapshot.allocations, admission.snapshot.pending
        self._organization = table.organization
        self._amounts = allocated(admission.snapshot)
        asking = dict(zip(pending.deployment_id.tolist(), pending.organization.tolist(), strict=True))
        yielding = dict(zip(table.id.tolist(), table.organization.tolist(), strict=True))
        self._takers = {
            asking[one.preemptor_id]
            for one in admission.evictions
            if asking[one.preemptor_id] != yielding[one.allocation_id]
        }

    def admit(self, victim: EvictionCandidate) -> bool:
        """Whether the victim, a gang whole, may stay; it is counted as used again then."""
        organization = int(self._organization[victim.row])
        rows = list(self._gangs.get(victim.row, (victim.row,)))
        amount = Resources(*self._amounts[rows].sum(axis=0).tolist())
        account = self._shares.projected(organization)
        if organization in self._takers or not account.over_limit(amount).is_zero:
            return False
        self._shares.record_nomination(organization, amount)
        return True


def _tell(admission: PassState, staying: set[int]) -> None:
    """Take the evictions out of the plan, and name those who stay as spared."""
    preemptor = {one.deployment_id: one.preemptor_id for one in admission.evictions}
    admission.evictions = [one for one in admission.evictions if one.deployment_id not in staying]
    evicting = {one.preemptor_id for one in admission.evictions}
    told: dict[int, tuple[Reprieved, ...]] = {}
    for id_, spared in admission.reprieved.items():
        if id_ in evicting:
            named = [one for one in spared if one.deployment_id not in staying]
            also = {one.deployment_id for one in spared} & staying
            also |= {victim for victim in staying if preemptor[victim] == id_}
            told[id_] = (*named, *(Reprieved(victim, REPRIEVED_LATE) for victim in sorted(also)))
    admission.reprieved = told
