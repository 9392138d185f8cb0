"""The node on which evictions admit a deployment at the least cost.

Nodes are compared by: the lowest highest victim priority, the least lost work, the lowest sum of priorities,
the fewest victims, the latest start, the node id. That is kube-scheduler's order with lost work put second.

Finding the victims of a node is a loop over its allocations, so it is done for few nodes. A lower bound of
the first two keys is computed for all nodes at once, and only nodes with the lowest bound are resolved.
Capacity only shrinks within a pass. So a cost from before a change of the node is still a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.feasibility import fits_capacity_arrays
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
    """A node, and the victims that a request needs there.

    `rules` maps allocation rows to rules. Victims without a rule have a lower priority.
    """

    node: int
    victims: tuple[EvictionCandidate, ...]
    cost: Cost
    rules: Mapping[int, PreemptionRule] = field(default_factory=dict)


@dataclass(slots=True)
class _Bounds:
    """Nodes for one shape and priority by cost, exact or a lower bound.

    `exact` has the option found on a node, with the number of changes of that node at that time.
    """

    heap: CostHeap
    exact: dict[int, tuple[int, PreemptionOption]]
    generation: int


class MinCostPreemption:
    """Finds victims by cost alone; keeps its bounds per shape and priority for the whole pass."""

    def __init__(
        self,
        capacity: WorkingState,
        candidates: EvictionCandidates,
        nominations: ActiveNominations,
        enabled: bool,
    ) -> None:
        self._capacity = capacity
        self._candidates = candidates
        self._nominations = nominations
        self._enabled = enabled
        self._bounds: dict[tuple[int, int], _Bounds] = {}
        self._node_bounds: dict[tuple[int, int], tuple[int, Cost | None]] = {}

    def find(
        self, request: Request, priority: int, rank: int, without: int = NO_NODE
    ) -> PreemptionOption | None:
        """The cheapest node, except `without`, for this priority and rank; None if there is none.

        Lower-ranked nominations may be overridden. They count as victims without lost work.
        """
        options = self._override_options(request, priority, rank, without)
        if self._enabled:
            evicting = self._evict_option(request, priority, without)
            if evicting is not None:
                options.append(evicting)
        return min(options, key=lambda option: (option.cost, option.node), default=None)

    def _override_options(
        self, request: Request, priority: int, rank: int, without: int
    ) -> list[PreemptionOption]:
        """Options on nodes with lower-ranked nominations. These change too often for bounds."""
        found = []
        for node in self._nominations.unconfirmed_nodes():
            if node == without or not request.eligible[node]:
                continue
            lower = [held.as_candidate() for held in self._nominations.on_node(node) if held.rank > rank]
            option = self._option_on(request, priority, node, lower) if lower else None
            if option is not None:
                found.append(option)
        return found

    def _evict_option(self, request: Request, priority: int, without: int) -> PreemptionOption | None:
        bounds = self._bounds_for(request, priority)
        heap, held_back, found = bounds.heap, None, None
        while found is None:
            top = heap.peek()
            if top is None:
                break
            if top[1] == without:
                held_back = top
                heap.pop()
                continue
            found = self._exact(bounds, top[1])
            if found is None and not self._raise_bound(heap, top, priority):
                self._resolve_top(bounds, request, priority, top[1])
        if held_back is not None:
            heap.push(held_back)
        return found

    def _exact(self, bounds: _Bounds, node: int) -> PreemptionOption | None:
        """The option found on the node, if the node has not changed since."""
        changes, option = bounds.exact.get(node, (-1, None))
        return option if changes == self._capacity.change_counts[node] else None

    def _raise_bound(self, heap: CostHeap, top: Entry, priority: int) -> bool:
        """Raise the bound of the top entry if the candidates left on its node cost more; else False."""
        bound, node = top
        least = self._node_bound(node, priority)
        if least is None:
            heap.pop()
        elif least <= bound:
            return False
        else:
            heap.replace((least, node))
        return True

    def _node_bound(self, node: int, priority: int) -> Cost | None:
        """The bound by the least important candidate on the node; None if there is no candidate."""
        changes = self._capacity.change_counts[node]
        known_changes, least = self._node_bounds.get((node, priority), (-1, None))
        if known_changes != changes:
            evictable = self._candidates.evictable
            least = None
            # The least important candidate is the last.
            for candidate in reversed(self._candidates.on_node(node)):
                if candidate.priority < priority and evictable[candidate.row]:
                    least = lower_bound(candidate.priority, candidate.lost_work)
                    break
            self._node_bounds[node, priority] = changes, least
        return least

    def _resolve_top(self, bounds: _Bounds, request: Request, priority: int, node: int) -> None:
        """Replace the bound of the top entry by the exact cost; remove it if no eviction helps there."""
        option = self._option_on(request, priority, node, [])
        if option is None:
            bounds.heap.pop()
        else:
            bounds.exact[node] = (self._capacity.change_counts[node], option)
            bounds.heap.replace((option.cost, node))

    def _bounds_for(self, request: Request, priority: int) -> _Bounds:
        key = (request.index, priority)
        found = self._bounds.get(key)
        if found is None or found.generation != self._capacity.generation:
            heap = self._lower_bounds(request, priority)
            found = self._bounds[key] = _Bounds(heap, {}, self._capacity.generation)
        return found

    def _option_on(
        self, request: Request, priority: int, node: int, lower_ranked: list[EvictionCandidate]
    ) -> PreemptionOption | None:
        capacity, evictable = self._capacity, self._candidates.evictable
        node_candidates = list(lower_ranked)
        if self._enabled:
            node_candidates += [
                candidate
                for candidate in self._candidates.on_node(node)
                if candidate.priority < priority and evictable[candidate.row]
            ]
        if lower_ranked:
            node_candidates.sort(key=lambda candidate: candidate.importance)
        victims = choose_victims(
            request,
            int(capacity.idle_cpu[node] + capacity.releasing_cpu[node]),
            int(capacity.idle_ram[node] + capacity.releasing_ram[node]),
            (capacity.idle_gpu[node] + capacity.releasing_gpu[node]).tolist(),
            node_candidates,
        )
        return None if victims is None else PreemptionOption(node, tuple(victims), cost(victims))

    def _lower_bounds(self, request: Request, priority: int) -> CostHeap:
        """Lower bounds for every node on which evictions could make the request fit."""
        if not self._candidates.any_lower_than(priority):
            return _NOTHING
        level = self._lowest_levels(request, priority)
        nodes = np.flatnonzero(level != _NONE)
        if not len(nodes):
            return _NOTHING
        return CostHeap(level[nodes], self._least_lost_work(request, priority, level)[nodes], nodes)

    def _lowest_levels(self, request: Request, priority: int) -> Int64:
        """Per node the lowest priority P: the request fits when everything up to P is evicted.

        A binary search over the priorities that occur, for all nodes at once.
        """
        table = self._candidates.table
        lower = self._candidates.lower_than(priority)
        if not lower.any():
            return np.full(len(self._capacity.nodes), _NONE)
        possible = self._candidates.preemptible_capacity(priority).fits(request)
        lower &= possible[table.node]
        priorities = np.unique(table.priority[lower]).astype(np.int64)
        if not len(priorities):
            return np.full(len(possible), _NONE)
        low = np.zeros(len(possible), np.int64)
        high = np.full(len(possible), len(priorities) - 1)
        while (low < high).any():
            middle = (low + high) // 2
            chosen = lower & (table.priority <= priorities[middle][table.node])
            fits = self._fits_without(request, self._capacity.usage_of(table, chosen))
            high = np.where(fits, middle, high)
            low = np.where(fits, low, np.minimum(middle + 1, high))
        return np.where(possible, priorities[high], _NONE)

    def _fits_without(self, request: Request, freed: tuple[Int64, Int64, Int64]) -> Bool:
        capacity = self._capacity
        cpu, ram, gpu = freed
        return fits_capacity_arrays(
            request,
            request.eligible,
            capacity.idle_cpu + capacity.releasing_cpu + cpu,
            capacity.idle_ram + capacity.releasing_ram + ram,
            capacity.idle_gpu + capacity.releasing_gpu + gpu,
        )

    def _least_lost_work(self, request: Request, priority: int, level: Int64) -> Float64:
        """A lower bound of the lost work per node.

        Some candidate at the highest level must be evicted. Enough devices must be cleared, and each costs at
        least its share of the lost work of its users.
        """
        table, lost = self._candidates.table, self._candidates.lost_work
        lower = self._candidates.lower_than(priority)
        at_level = np.flatnonzero(lower & (table.priority == level[table.node]))
        lower_bound = np.full(len(level), np.inf)
        np.minimum.at(lower_bound, table.node[at_level], lost[at_level])
        lower_bound[np.isinf(lower_bound)] = 0.0
        if request.whole_devices:
            lower_bound = np.maximum(lower_bound, self._device_cost(request, lower, level))
        return lower_bound * _ROUNDING

    def _device_cost(self, request: Request, lower: Bool, level: Int64) -> Float64:
        capacity, table = self._capacity, self._candidates.table
        chosen = lower & (table.priority <= level[table.node])
        row, device = capacity.devices_in_use
        picked = chosen[row]
        row, device = row[picked], device[picked]
        share = self._candidates.lost_work[row] / np.bitwise_count(table.gpu_mask[row])
        flat = table.node[row].astype(np.int64) * capacity.width + device
        price = np.bincount(flat, share, level.size * capacity.width).astype(np.float64)
        price = price.reshape(level.size, capacity.width)
        _, _, freed = capacity.usage_of(table, chosen)
        available = capacity.idle_gpu + capacity.releasing_gpu
        price[available + freed != WHOLE_GPU] = np.inf
        price[available == WHOLE_GPU] = 0.0
        price.sort(axis=1)
        total = price[:, : request.device_count].sum(axis=1)
        return np.where(np.isfinite(total), total, 0.0)
