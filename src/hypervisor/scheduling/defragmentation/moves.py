"""Up to three moves of running deployments that make room for a request.

Only evictable work moves, only to capacity that is free now, and only whole deployments with one replica. The
fewest moves are best, then the least lost work, then the lower node id. The search is bounded to the nearest
nodes, and on each node to the work that loses least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hypervisor.scheduling.capacity.feasibility import (
    fits_capacity,
    fits_empty_nodes,
    fits_idle,
    usable_devices,
)
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.defragmentation.fragmentation import idle_capacity
from hypervisor.scheduling.preemption.cost import lost_work
from hypervisor.scheduling.snapshots.requests import Eligibility, Request
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot

MOST_MOVES = 3
_NODES = 32
_CANDIDATES = 12


@dataclass(frozen=True, slots=True)
class Move:
    """Run this deployment on another node; `lost_work` is in GPU-seconds, or CPU-seconds without GPUs."""

    deployment_id: int
    from_node: int
    to_node: int
    gpu_indices: tuple[int, ...]
    lost_work: float


@dataclass(frozen=True, slots=True)
class Opening:
    """The node where the request fits after the moves; without moves if it fits already."""

    node_id: int
    moves: tuple[Move, ...]


def find_opening(snapshot: Snapshot, shape: Shape, limits: Mapping[int, Shape]) -> Opening | None:
    """The cheapest opening for a request; None if up to three moves make none.

    `limits` are the shapes of running deployments whose GPU models or node labels are limited.
    """
    search = _Search(snapshot, limits)
    request = search.eligibility.request(0, shape)
    fitting = np.flatnonzero(fits_idle(search.state, request))
    if len(fitting):
        return Opening(int(snapshot.nodes.id[fitting[0]]), ())
    found = [opening for node in search.nearest(request) if (opening := search.open_on(node, request))]
    return min(found, key=_cost, default=None)


def target_for(
    snapshot: Snapshot, deployment_id: int, node_id: int, limits: Mapping[int, Shape]
) -> Move | None:
    """The move of this deployment to this node, if it may be moved and fits there now."""
    search = _Search(snapshot, limits)
    targets = np.flatnonzero(snapshot.nodes.id == node_id).tolist()
    for row in np.flatnonzero(search.movable).tolist():
        if int(snapshot.allocations.deployment_id[row]) == deployment_id and targets:
            if int(snapshot.allocations.node[row]) == targets[0]:
                return None
            return search.move(row, targets, {})
    return None


def _cost(opening: Opening) -> tuple[int, float, int]:
    return len(opening.moves), sum(move.lost_work for move in opening.moves), opening.node_id


_Capacity = tuple[int, int, list[int]]


class _Search:
    def __init__(self, snapshot: Snapshot, limits: Mapping[int, Shape]) -> None:
        self.snapshot = snapshot
        self.state: WorkingState
        self.eligibility: Eligibility
        self.state, self.eligibility = idle_capacity(snapshot)
        self._limits = limits
        table = snapshot.allocations
        self._lost = lost_work(table, snapshot.now)
        _, group, count = np.unique(table.deployment_id, return_inverse=True, return_counts=True)
        alone = count[group.reshape(-1)] == 1
        self.movable = table.preemptible & ~table.releasing & (table.protected_until <= snapshot.now) & alone

    def nearest(self, request: Request) -> Sequence[int]:
        """Nodes that are large enough, the smallest shortfall first."""
        nodes, state = self.snapshot.nodes, self.state
        gpu = state.whole_gpus if request.whole_devices else state.largest_fraction
        distance = shortfall_distance(request, state.idle_cpu, state.idle_ram, gpu)
        possible = fits_empty_nodes(nodes, request, request.eligible)
        order = np.argsort(np.where(possible, distance, np.inf), kind="stable")
        chosen: list[int] = order[: min(_NODES, int(possible.sum()))].tolist()
        return chosen

    def open_on(self, node: int, request: Request) -> Opening | None:
        """The fewest moves off a node that make room there."""
        table = self.snapshot.allocations
        rows = np.flatnonzero(self.movable & (table.node == node))
        rows = rows[np.lexsort((table.id[rows], self._lost[rows]))][:_CANDIDATES]
        for size in range(1, MOST_MOVES + 1):
            options = [
                Opening(int(self.snapshot.nodes.id[node]), moves)
                for chosen in combinations(rows.tolist(), size)
                if self._makes_room(node, chosen, request) and (moves := self._move_all(node, chosen))
            ]
            if options:
                return min(options, key=_cost)
        return None

    def _makes_room(self, node: int, rows: Sequence[int], request: Request) -> bool:
        table = self.snapshot.allocations
        cpu, ram, gpu = self._capacity_after(node, {})
        for row in rows:
            cpu += int(table.cpu_milli[row])
            ram += int(table.ram_mib[row])
            mask, each = int(table.gpu_mask[row]), int(table.gpu_milli_per_device[row])
            gpu = [free + each * (mask >> index & 1) for index, free in enumerate(gpu)]
        return fits_capacity(request, cpu, ram, gpu)

    def _move_all(self, node: int, rows: Sequence[int]) -> tuple[Move, ...] | None:
        """Moves of all these rows to other nodes, the largest first; None if they do not all fit."""
        table = self.snapshot.allocations
        taken: dict[int, _Capacity] = {}
        moves = []
        order = sorted(rows, key=lambda row: (-int(table.gpu_mask[row]).bit_count(), -table.cpu_milli[row]))
        for row in order:
            move = self.move(row, [one for one in range(len(self.state.nodes)) if one != node], taken)
            if move is None:
                return None
            moves.append(move)
        return tuple(moves)

    def move(self, row: int, targets: Sequence[int], taken: dict[int, _Capacity]) -> Move | None:
        """The move to the target with the least idle GPU and CPU on which it fits; updates `taken`."""
        request = self._request(row)
        fits = fits_idle(self.state, request)
        idle = self.state.idle_gpu.sum(axis=1)
        fitting = [node for node in targets if fits[node]]
        for node in sorted(fitting, key=lambda node: (idle[node], self.state.idle_cpu[node], node)):
            cpu, ram, gpu = self._capacity_after(node, taken)
            if not fits_capacity(request, cpu, ram, gpu):
                continue
            devices = usable_devices(request, gpu) if request.device_count else []
            chosen = tuple(sorted(sorted(devices, key=lambda index: gpu[index])[: request.device_count]))
            left = [free - request.milli_per_device * (index in chosen) for index, free in enumerate(gpu)]
            taken[node] = (cpu - request.cpu, ram - request.ram, left)
            return self._move_to(row, node, chosen)
        return None

    def _move_to(self, row: int, node: int, devices: tuple[int, ...]) -> Move:
        table, ids = self.snapshot.allocations, self.snapshot.nodes.id
        return Move(
            int(table.deployment_id[row]),
            int(ids[table.node[row]]),
            int(ids[node]),
            devices,
            float(self._lost[row]),
        )

    def _request(self, row: int) -> Request:
        table = self.snapshot.allocations
        devices = int(table.gpu_mask[row]).bit_count()
        plain = Shape(
            int(table.cpu_milli[row]), int(table.ram_mib[row]), devices * int(table.gpu_milli_per_device[row])
        )
        return self.eligibility.request(0, self._limits.get(int(table.deployment_id[row]), plain))

    def _capacity_after(self, node: int, taken: Mapping[int, _Capacity]) -> _Capacity:
        state = self.state
        if node in taken:
            return taken[node]
        return int(state.idle_cpu[node]), int(state.idle_ram[node]), state.idle_gpu[node].tolist()
