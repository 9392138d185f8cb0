"""Victims where it matters whose work it is: shared clusters, and pairs that may not evict each other.

The plain search keeps bounds that hold for everybody of one priority. Here each pending deployment may evict
others than the next one, so nodes are worked out for it alone: the most promising first, and no more than
`MOST_OPTIONS` that would do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.feasibility import fits_room
from hypervisor.scheduling.legality import rule_for, told
from hypervisor.scheduling.potential import Candidates
from hypervisor.scheduling.preemption import Option
from hypervisor.scheduling.ranking import NOWHERE
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.reservations import Reservation, Reservations
from hypervisor.scheduling.shares import Account, Shares, allocated, requested
from hypervisor.scheduling.snapshot import Bool, Int64, Snapshot
from hypervisor.scheduling.victims import Candidate, Room, choose_victims, cost, put_back
from hypervisor.scheduling.working import WorkingState

MOST_OPTIONS = 64


@dataclass(frozen=True, slots=True)
class Asker:
    """Who wants a place: `job` is what all its replicas hold, `over` by how much that is above its limit."""

    deployment_id: int
    organization: int
    priority: int
    rank: int
    job: Resources
    over: Resources


class CarefulSearch:
    """Searches the best node for one deployment; `shares` is None where no quotas are."""

    def __init__(
        self,
        snapshot: Snapshot,
        state: WorkingState,
        candidates: Candidates,
        reservations: Reservations,
        shares: Shares | None,
        enabled: bool,
    ) -> None:
        self._snapshot = snapshot
        self._state = state
        self._candidates = candidates
        self._reservations = reservations
        self._shares = shares
        self._enabled = enabled
        self._amounts = allocated(snapshot)
        self._frozen: dict[int, set[int]] = defaultdict(set)
        for preemptor, victim in snapshot.frozen_pairs:
            self._frozen[preemptor].add(victim)

    def concerns(self, deployment_id: int) -> bool:
        """Whether the plain search would not do for this one."""
        return self._shares is not None or deployment_id in self._frozen

    def search(self, request: Request, asker: Asker, without: int = NOWHERE) -> Option | None:
        """The best node with its victims and the rule for each, or None if no node would do."""
        found: list[Option] = []
        for node in self._promising(request, asker):
            if node == without:
                continue
            option = self._work_out(request, asker, node)
            if option is not None:
                found.append(option)
                if len(found) >= MOST_OPTIONS:
                    break
        return min(found, key=lambda option: (option.cost, option.node), default=None)

    def _promising(self, request: Request, asker: Asker) -> list[int]:
        """Nodes that might do, those whose least important candidate matters least first."""
        state, table = self._state, self._candidates.table
        chosen = self._may_be_evicted(asker)
        cpu, ram, gpu = state.sums(table, chosen)
        cpu, ram = cpu + state.free_cpu + state.coming_cpu, ram + state.free_ram + state.coming_ram
        gpu = gpu + state.free_gpu + state.coming_gpu
        for node in self._reservations.unsettled_nodes():
            for held in self._overridden_on(node, asker):
                cpu[node] += held.request.cpu
                ram[node] += held.request.ram
                gpu[node, list(held.devices)] += held.request.each
        nodes = np.flatnonzero(fits_room(request, request.eligible, cpu, ram, gpu))
        least = np.full(len(state.nodes), np.iinfo(np.int64).max)
        np.minimum.at(least, table.node[chosen], table.priority[chosen])
        ordered: list[int] = nodes[np.argsort(least[nodes], kind="stable")].tolist()
        return ordered

    def _may_be_evicted(self, asker: Asker) -> Bool:
        """A superset of the allocations that it may evict."""
        table = self._candidates.table
        if not self._enabled:
            return np.zeros(len(table), np.bool_)
        chosen = self._candidates.evictable.copy()
        frozen = self._frozen.get(asker.deployment_id)
        if frozen:
            chosen &= ~np.isin(table.deployment_id, list(frozen))
        lower = table.priority < asker.priority
        if self._shares is None:
            return chosen & lower
        own: Bool = table.organization == asker.organization
        guaranteed = self._shares.account(asker.organization).is_guaranteed(asker.job)
        return chosen & (lower | ~own) if guaranteed else chosen & lower

    def _work_out(self, request: Request, asker: Asker, node: int) -> Option | None:
        state = self._state
        rules: dict[int, str] = {}
        yielding = self._yielding(asker, node, rules)
        room = (
            int(state.free_cpu[node] + state.coming_cpu[node]),
            int(state.free_ram[node] + state.coming_ram[node]),
            (state.free_gpu[node] + state.coming_gpu[node]).tolist(),
        )
        if asker.over.is_zero:
            victims = choose_victims(request, *room, yielding)
        else:
            victims = self._below_the_limit(request, room, asker, yielding)
        if victims is None:
            return None
        used = {victim.row: rules[victim.row] for victim in victims if victim.row >= 0}
        return Option(node, tuple(victims), cost(victims), used)

    def _yielding(self, asker: Asker, node: int, rules: dict[int, str]) -> list[Candidate]:
        """Everything there that may be evicted together, and nominations that may be overridden.

        Taken from the least important up, each judged by what its organization has left by then.
        """
        accounts: dict[int, Account] = {}
        found = [held.as_candidate() for held in self._overridden_on(node, asker)]
        possible = self._may_be_evicted_on(node, asker)
        for candidate in reversed(possible):
            rule = self._rule(asker, candidate, accounts)
            if rule is not None:
                rules[candidate.row] = rule
                found.append(candidate)
        return sorted(found, key=lambda candidate: candidate.importance)

    def _may_be_evicted_on(self, node: int, asker: Asker) -> list[Candidate]:
        if not self._enabled:
            return []
        table, frozen = self._candidates.table, self._frozen.get(asker.deployment_id, ())
        return [
            candidate
            for candidate in self._candidates.on(node)
            if self._candidates.evictable[candidate.row]
            and int(table.deployment_id[candidate.row]) not in frozen
        ]

    def _rule(self, asker: Asker, candidate: Candidate, accounts: dict[int, Account]) -> str | None:
        """The rule in words by which it may go, its organization's account then being without it."""
        if self._shares is None:
            lower = candidate.priority < asker.priority
            return f"priority {asker.priority} over {candidate.priority}" if lower else None
        organization = int(self._candidates.table.organization[candidate.row])
        theirs = accounts.get(organization) or self._shares.account(organization)
        victim = self.amount_of(candidate)
        rule = rule_for(
            same_organization=organization == asker.organization,
            mine=self._shares.account(asker.organization),
            job=asker.job,
            priority=asker.priority,
            theirs=theirs,
            victim=victim,
            victim_priority=candidate.priority,
        )
        if rule is None:
            return None
        accounts[organization] = replace(theirs, usage=theirs.usage - victim)
        return told(rule, asker.priority, candidate.priority)

    def amount_of(self, candidate: Candidate) -> Resources:
        """What goes with it: its allocation, or those of its whole gang."""
        rows = list(self._candidates.gangs.get(candidate.row, (candidate.row,)))
        total: Int64 = self._amounts[rows].sum(axis=0)
        return Resources(*total.tolist())

    def _overridden_on(self, node: int, asker: Asker) -> list[Reservation]:
        """Nominations there that rank lower; of another organization only where an eviction were legal."""
        lower = [held for held in self._reservations.on(node) if held.rank > asker.rank]
        return [held for held in lower if self.may_override(held, asker)]

    def may_override(self, held: Reservation, asker: Asker) -> bool:
        """Whether a nomination that ranks lower has to give way."""
        if held.deployment_id in self._frozen.get(asker.deployment_id, ()):
            return False
        if self._shares is None:
            return True
        organization = int(self._snapshot.pending.organization[held.row])
        if organization == asker.organization:
            return True
        rule = rule_for(
            same_organization=False,
            mine=self._shares.account(asker.organization),
            job=asker.job,
            priority=asker.priority,
            theirs=self._shares.account(organization),
            victim=requested(held.request.shape),
            victim_priority=held.priority,
        )
        return rule is not None

    def _below_the_limit(
        self, request: Request, room: tuple[int, int, list[int]], asker: Asker, yielding: Sequence[Candidate]
    ) -> list[Candidate] | None:
        """Victims that make room on the node and take the organization's own usage below its limit."""
        own = {
            candidate.row: self.amount_of(candidate)
            for candidate in yielding
            if candidate.row >= 0
            and int(self._candidates.table.organization[candidate.row]) == asker.organization
        }
        limited = _LimitedRoom(request, *room, over=asker.over, own=own)
        for candidate in yielding:
            limited.give(candidate)
        return put_back(limited, yielding) if limited.fits() else None


class _LimitedRoom(Room):
    """Room that the request may use only once enough of its organization's own work is gone."""

    __slots__ = ("_over", "_own")

    def __init__(
        self,
        request: Request,
        cpu: int,
        ram: int,
        gpu: Sequence[int],
        *,
        over: Resources,
        own: dict[int, Resources],
    ) -> None:
        super().__init__(request, cpu, ram, gpu)
        self._over = over
        self._own = own

    def fits(self) -> bool:
        over = self._over
        return max(over.cpu_milli, over.ram_mib, over.gpu_milli) <= 0 and super().fits()

    def take(self, candidate: Candidate) -> None:
        super().take(candidate)
        self._over += self._own.get(candidate.row, Resources())

    def give(self, candidate: Candidate) -> None:
        super().give(candidate)
        self._over -= self._own.get(candidate.row, Resources())
