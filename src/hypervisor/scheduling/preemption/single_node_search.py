"""The node on which a deployment can be admitted by evicting lower ones, at the least cost.

Node order: lowest highest-victim priority, then least lost work, then lowest sum of priorities, then fewest
victims, then latest start, then node id (kube-scheduler's order with lost work put second).

Working out the victims of a node is a loop over its allocations, so it is done for few nodes: every node
has a lower bound of its first two keys, computed for all nodes at once, and only nodes whose bound is the
lowest are worked out. Since capacity only shrinks within a pass, what was known of a node stays a lower
bound after the node has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.feasibility import fits_in_rooms
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.plan_result import PreemptionRule
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.cost_heap import CostHeap, Entry, lower_bound
from hypervisor.scheduling.preemption.nominations import ActiveNominations
from hypervisor.scheduling.preemption.victims import Cost, EvictionCandidate, choose_victims, cost
from hypervisor.scheduling.scoring.node_ranking import NO_NODE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Float64, Int64

_NONE = np.iinfo(np.int64).max
_ROUNDING = 1.0 - 1e-9
_NOTHING = CostHeap(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64))


@dataclass(frozen=True, slots=True)
class PreemptionOption:
    """A node with the victims that a request needs there.

    `rules` has the rule for each victim by its allocation row. Victims without one have a lower priority.
    """

    node: int
    victims: tuple[EvictionCandidate, ...]
    cost: Cost
    rules: Mapping[int, PreemptionRule] = field(default_factory=dict)


@dataclass(slots=True)
class _Bounds:
    """Nodes for one shape and priority by cost: exact where worked out, else a lower bound.

    `known` holds what was worked out of a node, with the node's number of changes at that time.
    """

    frontier: CostHeap
    known: dict[int, tuple[int, PreemptionOption]]
    generation: int


class MinCostPreemption:
    """Searches victims; holds its bounds per (shape, priority) for the length of a pass."""

    def __init__(
        self,
        state: WorkingState,
        candidates: EvictionCandidates,
        reservations: ActiveNominations,
        enabled: bool,
    ) -> None:
        self._state = state
        self._candidates = candidates
        self._reservations = reservations
        self._enabled = enabled
        self._bounds: dict[tuple[int, int], _Bounds] = {}
        self._least: dict[tuple[int, int], tuple[int, Cost | None]] = {}

    def find(
        self, request: Request, priority: int, rank: int, without: int = NO_NODE
    ) -> PreemptionOption | None:
        """The best node for a deployment of this priority and rank, or None if no node would do.

        Nominations that rank lower may be overridden; they count as victims without lost work.
        """
        options = self._overriding(request, priority, rank, without)
        if self._enabled:
            evicting = self._evicting(request, priority, without)
            if evicting is not None:
                options.append(evicting)
        return min(options, key=lambda option: (option.cost, option.node), default=None)

    def _overriding(self, request: Request, priority: int, rank: int, without: int) -> list[PreemptionOption]:
        """Options on nodes with lower-ranked nominations, which change too often for bounds."""
        found = []
        for node in self._reservations.unconfirmed_nodes():
            if node == without or not request.eligible[node]:
                continue
            lower = [held.as_candidate() for held in self._reservations.on_node(node) if held.rank > rank]
            option = self._work_out(request, priority, node, lower) if lower else None
            if option is not None:
                found.append(option)
        return found

    def _evicting(self, request: Request, priority: int, without: int) -> PreemptionOption | None:
        bounds = self._bounds_of(request, priority)
        frontier, aside, found = bounds.frontier, None, None
        while found is None:
            first = frontier.peek()
            if first is None:
                break
            if first[1] == without:
                aside = first
                frontier.pop()
                continue
            found = self._known(bounds, first[1])
            if found is None and not self._raise_bound(frontier, first, priority):
                self._work_out_first(bounds, request, priority, first[1])
        if aside is not None:
            frontier.push(aside)
        return found

    def _known(self, bounds: _Bounds, node: int) -> PreemptionOption | None:
        """What was worked out of the node, if nothing has happened there since."""
        changes, option = bounds.known.get(node, (-1, None))
        return option if changes == self._state.change_counts[node] else None

    def _raise_bound(self, frontier: CostHeap, first: Entry, priority: int) -> bool:
        """Move the first entry down if whoever is left on its node costs more; much cheaper than victims."""
        known, node = first
        least = self._least_important(node, priority)
        if least is None:
            frontier.pop()
        elif least <= known:
            return False
        else:
            frontier.replace((least, node))
        return True

    def _least_important(self, node: int, priority: int) -> Cost | None:
        """The bound that the least important one on the node sets; None if nobody there may be evicted."""
        changes = self._state.change_counts[node]
        seen, least = self._least.get((node, priority), (-1, None))
        if seen != changes:
            evictable = self._candidates.evictable
            least = None
            # The least important one comes last.
            for candidate in reversed(self._candidates.on_node(node)):
                if candidate.priority < priority and evictable[candidate.row]:
                    least = lower_bound(candidate.priority, candidate.lost_work)
                    break
            self._least[node, priority] = changes, least
        return least

    def _work_out_first(self, bounds: _Bounds, request: Request, priority: int, node: int) -> None:
        """Replace the first entry, a bound, by the exact cost; drop it if nothing helps there any more."""
        option = self._work_out(request, priority, node, [])
        if option is None:
            bounds.frontier.pop()
        else:
            bounds.known[node] = (self._state.change_counts[node], option)
            bounds.frontier.replace((option.cost, node))

    def _bounds_of(self, request: Request, priority: int) -> _Bounds:
        key = (request.index, priority)
        found = self._bounds.get(key)
        if found is None or found.generation != self._state.generation:
            frontier = self._lower_bounds(request, priority)
            found = self._bounds[key] = _Bounds(frontier, {}, self._state.generation)
        return found

    def _work_out(
        self, request: Request, priority: int, node: int, lower_ranked: list[EvictionCandidate]
    ) -> PreemptionOption | None:
        state, evictable = self._state, self._candidates.evictable
        yielding = list(lower_ranked)
        if self._enabled:
            yielding += [
                candidate
                for candidate in self._candidates.on_node(node)
                if candidate.priority < priority and evictable[candidate.row]
            ]
        if lower_ranked:
            yielding.sort(key=lambda candidate: candidate.importance)
        victims = choose_victims(
            request,
            int(state.idle_cpu[node] + state.releasing_cpu[node]),
            int(state.idle_ram[node] + state.releasing_ram[node]),
            (state.idle_gpu[node] + state.releasing_gpu[node]).tolist(),
            yielding,
        )
        return None if victims is None else PreemptionOption(node, tuple(victims), cost(victims))

    def _lower_bounds(self, request: Request, priority: int) -> CostHeap:
        """A bound for every node on which evictions could make the request fit."""
        if not self._candidates.any_lower_than(priority):
            return _NOTHING
        level = self._lowest_levels(request, priority)
        nodes = np.flatnonzero(level != _NONE)
        if not len(nodes):
            return _NOTHING
        return CostHeap(level[nodes], self._least_lost_work(request, priority, level)[nodes], nodes)

    def _lowest_levels(self, request: Request, priority: int) -> Int64:
        """Per node the lowest priority such that evicting everything up to it makes the request fit.

        A binary search over the priorities that occur, for all nodes at once.
        """
        table = self._candidates.table
        below = self._candidates.lower_than(priority)
        if not below.any():
            return np.full(len(self._state.nodes), _NONE)
        possible = self._candidates.room(priority).fits(request)
        below &= possible[table.node]
        priorities = np.unique(table.priority[below]).astype(np.int64)
        if not len(priorities):
            return np.full(len(possible), _NONE)
        low = np.zeros(len(possible), np.int64)
        high = np.full(len(possible), len(priorities) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            chosen = below & (table.priority <= priorities[middle][table.node])
            fits = self._fits_with(request, self._state.usage_of(table, chosen))
            high = np.where(fits, middle, high)
            low = np.where(fits, low, np.minimum(middle + 1, high))
        return np.where(possible, priorities[high], _NONE)

    def _fits_with(self, request: Request, freed: tuple[Int64, Int64, Int64]) -> Bool:
        state = self._state
        cpu, ram, gpu = freed
        return fits_in_rooms(
            request,
            request.eligible,
            state.idle_cpu + state.releasing_cpu + cpu,
            state.idle_ram + state.releasing_ram + ram,
            state.idle_gpu + state.releasing_gpu + gpu,
        )

    def _least_lost_work(self, request: Request, priority: int, level: Int64) -> Float64:
        """A lower bound of the work lost per node: someone at the highest level must go, and enough devices
        must be cleared, each of which costs at least its share of those who use it."""
        table, lost = self._candidates.table, self._candidates.lost_work
        below = self._candidates.lower_than(priority)
        at_level = np.flatnonzero(below & (table.priority == level[table.node]))
        lower_bound = np.full(len(level), np.inf)
        np.minimum.at(lower_bound, table.node[at_level], lost[at_level])
        lower_bound[np.isinf(lower_bound)] = 0.0
        if request.whole_devices:
            lower_bound = np.maximum(lower_bound, self._clearing_devices(request, below, level))
        return lower_bound * _ROUNDING

    def _clearing_devices(self, request: Request, below: Bool, level: Int64) -> Float64:
        state, table = self._state, self._candidates.table
        chosen = below & (table.priority <= level[table.node])
        row, device = state.devices_in_use
        picked = chosen[row]
        row, device = row[picked], device[picked]
        share = self._candidates.lost_work[row] / np.bitwise_count(table.gpu_mask[row])
        flat = table.node[row].astype(np.int64) * state.width + device
        price = np.bincount(flat, share, level.size * state.width).astype(np.float64)
        price = price.reshape(level.size, state.width)
        _, _, freed = state.usage_of(table, chosen)
        room = state.idle_gpu + state.releasing_gpu
        price[room + freed != WHOLE_GPU] = np.inf
        price[room == WHOLE_GPU] = 0.0
        price.sort(axis=1)
        total = price[:, : request.device_count].sum(axis=1)
        return np.where(np.isfinite(total), total, 0.0)
