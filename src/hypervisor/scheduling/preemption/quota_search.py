"""Victims on one node where the owner matters: shared clusters, and pairs that may not evict each other.

`MinCostPreemption` keeps bounds that hold for every deployment of a priority. Here each preemptor may evict
different work. So nodes are examined for each preemptor, the most promising first, until `MOST_OPTIONS` nodes
are suitable.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.capacity.feasibility import fits_capacity_arrays
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.eviction_groups import EvictionGroup, GangEvictionTrial
from hypervisor.scheduling.preemption.eviction_rules import EvictionRules, Preemptor, VictimUsage
from hypervisor.scheduling.preemption.gang_search import MOST_NODES, GangPreemption
from hypervisor.scheduling.preemption.group_candidates import GroupCandidate, GroupCandidates
from hypervisor.scheduling.preemption.nominations import ActiveNomination, ActiveNominations
from hypervisor.scheduling.preemption.single_node_search import PreemptionOption
from hypervisor.scheduling.preemption.victims import EvictionCandidate, choose_victims, cost
from hypervisor.scheduling.queueing.quota_usage import QuotaLedger, allocated, requested
from hypervisor.scheduling.scoring.node_ranking import NO_NODE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64, Snapshot

MOST_OPTIONS = 64


class QuotaAwarePreemption:
    """Finds victims by quotas and frozen pairs; `ledger` is None without quotas."""

    def __init__(
        self,
        snapshot: Snapshot,
        capacity: WorkingState,
        candidates: EvictionCandidates,
        nominations: ActiveNominations,
        ledger: QuotaLedger | None,
        enabled: bool,
    ) -> None:
        self._snapshot = snapshot
        self._capacity = capacity
        self._candidates = candidates
        self._nominations = nominations
        self._ledger = ledger
        self._enabled = enabled
        self._amounts = allocated(snapshot)
        self._frozen: dict[int, set[int]] = defaultdict(set)
        for preemptor, victim in snapshot.frozen_pairs:
            self._frozen[preemptor].add(victim)

    def applies_to(self, deployment_id: int) -> bool:
        """Whether this deployment needs this search."""
        return self._ledger is not None or deployment_id in self._frozen

    def find(self, request: Request, preemptor: Preemptor, without: int = NO_NODE) -> PreemptionOption | None:
        """The best node, except `without`, with its victims and their rules; None if no node is suitable."""
        found: list[PreemptionOption] = []
        for node in self._promising(request, preemptor):
            if node == without:
                continue
            option = self._option_on(request, preemptor, node)
            if option is not None:
                found.append(option)
                if len(found) >= MOST_OPTIONS:
                    break
        return min(found, key=lambda option: (option.cost, option.node), default=None)

    def _promising(self, request: Request, preemptor: Preemptor) -> list[int]:
        """Nodes that may be suitable, ordered by their least important candidate."""
        capacity, table = self._capacity, self._candidates.table
        chosen = self._may_be_evicted(preemptor)
        cpu, ram, gpu = capacity.usage_of(table, chosen)
        cpu, ram = (
            cpu + capacity.idle_cpu + capacity.releasing_cpu,
            ram + capacity.idle_ram + capacity.releasing_ram,
        )
        gpu = gpu + capacity.idle_gpu + capacity.releasing_gpu
        for node in self._nominations.unconfirmed_nodes():
            for held in self._overridable_on(node, preemptor):
                cpu[node] += held.request.cpu
                ram[node] += held.request.ram
                gpu[node, list(held.devices)] += held.request.milli_per_device
        nodes = np.flatnonzero(fits_capacity_arrays(request, request.eligible, cpu, ram, gpu))
        least = np.full(len(capacity.nodes), np.iinfo(np.int64).max)
        np.minimum.at(least, table.node[chosen], table.priority[chosen])
        ordered: list[int] = nodes[np.argsort(least[nodes], kind="stable")].tolist()
        return ordered

    def _may_be_evicted(self, preemptor: Preemptor) -> Bool:
        """A mask that covers every allocation that it may evict; the rules decide on each of them."""
        table = self._candidates.table
        if not self._enabled:
            return np.zeros(len(table), np.bool_)
        chosen = self._candidates.evictable.copy()
        frozen = self._frozen.get(preemptor.deployment_id)
        if frozen:
            chosen &= ~np.isin(table.deployment_id, list(frozen))
        lower = table.priority < preemptor.priority
        if self._ledger is None:
            return chosen & lower
        own: Bool = table.organization == preemptor.organization
        guaranteed = self._ledger.projected(preemptor.organization).is_guaranteed(preemptor.demand)
        return chosen & (lower | ~own) if guaranteed else chosen & lower

    def _option_on(self, request: Request, preemptor: Preemptor, node: int) -> PreemptionOption | None:
        capacity = self._capacity
        rules: dict[int, PreemptionRule] = {}
        node_candidates = self._evictable_on(preemptor, node, rules)
        available = (
            int(capacity.idle_cpu[node] + capacity.releasing_cpu[node]),
            int(capacity.idle_ram[node] + capacity.releasing_ram[node]),
            (capacity.idle_gpu[node] + capacity.releasing_gpu[node]).tolist(),
        )
        victims = choose_victims(request, *available, node_candidates)
        if victims is None:
            return None
        used = {victim.row: rules[victim.row] for victim in victims if victim.row >= 0}
        return PreemptionOption(node, tuple(victims), cost(victims), used)

    def _evictable_on(
        self, preemptor: Preemptor, node: int, rules: dict[int, PreemptionRule]
    ) -> list[EvictionCandidate]:
        """Candidates that may be evicted together, and nominations that may be overridden.

        The rules are applied from the least important up, each without the usage of the candidates before.
        """
        legality = EvictionRules(preemptor, self._ledger)
        found = [held.as_candidate() for held in self._overridable_on(node, preemptor)]
        for candidate in reversed(self._may_be_evicted_on(node, preemptor)):
            usage = self._usage_of(candidate)
            rule = legality.rule_for(usage)
            if rule is not None:
                legality.remove(usage)
                rules[candidate.row] = rule
                found.append(candidate)
        return sorted(found, key=lambda candidate: candidate.importance)

    def _may_be_evicted_on(self, node: int, preemptor: Preemptor) -> list[EvictionCandidate]:
        if not self._enabled:
            return []
        table, frozen = self._candidates.table, self._frozen.get(preemptor.deployment_id, ())
        return [
            candidate
            for candidate in self._candidates.on_node(node)
            if self._candidates.evictable[candidate.row]
            and int(table.deployment_id[candidate.row]) not in frozen
        ]

    def _usage_of(self, candidate: EvictionCandidate) -> VictimUsage:
        """The organization of the candidate, and the amount that its eviction frees (of a whole gang)."""
        rows = list(self._candidates.gangs.get(candidate.row, (candidate.row,)))
        total: Int64 = self._amounts[rows].sum(axis=0)
        organization = int(self._candidates.table.organization[candidate.row])
        return VictimUsage(organization, Resources(*total.tolist()), candidate.priority)

    def _overridable_on(self, node: int, preemptor: Preemptor) -> list[ActiveNomination]:
        """Lower-ranked nominations on the node that may be overridden."""
        lower = [held for held in self._nominations.on_node(node) if held.rank > preemptor.rank]
        return [held for held in lower if self.may_override(held, preemptor)]

    def may_override(self, held: ActiveNomination, preemptor: Preemptor) -> bool:
        """Whether a lower-ranked nomination may be overridden."""
        if held.deployment_id in self._frozen.get(preemptor.deployment_id, ()):
            return False
        return EvictionRules(preemptor, self._ledger).may_override(self._usage_of_nomination(held))

    def find_groups(
        self, preemptor: Preemptor, trial: GangEvictionTrial, replicas: int, over: Resources
    ) -> list[GroupCandidate] | None:
        """Victims on any nodes whose eviction makes all replicas fit into `trial` and offsets `over`.

        `over` is by how much its organization would exceed its limit. None without such a set.
        """
        candidates = self._group_candidates(preemptor)
        possible = trial.counts_with(*candidates.held_resources(self._capacity))
        if int(possible.sum()) < replicas:
            return None
        nodes = candidates.promising_nodes(possible - trial.counts, max(MOST_NODES, 2 * replicas))
        return GangPreemption(
            trial, replicas, over, EvictionRules(preemptor, self._ledger), candidates
        ).find_victims(nodes)

    def _group_candidates(self, preemptor: Preemptor) -> GroupCandidates:
        lower: dict[int, list[ActiveNomination]] = defaultdict(list)
        for held in self._nominations.all():
            if held.rank > preemptor.rank and self.may_override(held, preemptor):
                lower[held.deployment_id].append(held)
        overridable = [
            GroupCandidate(
                EvictionGroup(id_, tuple((held.node, held.as_candidate()) for held in all_held)),
                self._usage_of_nomination(all_held[0]),
                is_nomination=True,
            )
            for id_, all_held in lower.items()
        ]
        return GroupCandidates(self._candidates, self._may_be_evicted(preemptor), overridable, self._usage_of)

    def _usage_of_nomination(self, held: ActiveNomination) -> VictimUsage:
        """The demand of all its replicas, as they are nominated together."""
        pending = self._snapshot.pending
        amount = requested(held.request.shape, int(pending.replicas[held.row]))
        return VictimUsage(int(pending.organization[held.row]), amount, held.priority)
