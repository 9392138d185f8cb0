"""The part of a cluster to repack, as a packing: waiting deployments, and nodes that may fit them.

Everything is bounded: the search covers a few dozen deployments and nodes, however large the cluster is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isinf

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.repacking.packing import NO_BIN, HeadGuard, Item, Packing
from hypervisor.scheduling.snapshots.requests import Request

_MOST_WAITING = 64
_LOOKED_AT = 1_024
_MOST_NODES = 64
_MOST_SHAPES = 8


@dataclass(frozen=True, slots=True)
class Movable:
    """A deployment with one replica that may move; `node` is a row of the node table.

    `guarded`: it may not take capacity that is reserved for the head of the queue.
    """

    deployment_id: int
    request: Request
    priority: int
    node: int
    devices: tuple[int, ...]
    guarded: bool


@dataclass(frozen=True, slots=True)
class Subproblem:
    """A packing whose bins are `nodes`. Its items are the movable ones, then the waiting ones.

    `nodes` and `pending_rows` are rows of the snapshot's tables; `waiting_items` are indexes of items.
    """

    nodes: Sequence[int]
    movable: Sequence[Movable]
    pending_rows: Sequence[int]
    packing: Packing

    @property
    def waiting_items(self) -> Sequence[int]:
        return range(len(self.movable), len(self.movable) + len(self.pending_rows))


def waiting_rows(state: PassState) -> list[int]:
    """The first pending rows in queue order that the pass has not placed, without gangs.

    They end at the second deployment that must not be overtaken, because capacity is guarded for one only.
    """
    queue = state.queue
    left = queue.order[~state.placed[queue.order]][:_LOOKED_AT].tolist()
    found: list[int] = []
    possible: dict[int, bool] = {}
    protected = 0
    for row in left:
        if len(found) == _MOST_WAITING:
            break
        shape = queue.shape(row)
        if shape not in possible:
            possible[shape] = _may_ever_start(state, state.request_for(shape))
        if state.nominations.of_row(row) or not possible[shape]:
            continue
        if not queue.is_gang(row):
            found.append(row)
        if _is_protected(state, row):
            protected += 1
            if protected > 1 or state.head_reservation is None or state.head_reservation.row != row:
                break
    return found


def is_guarded_against(state: PassState, priority: int) -> bool:
    """Whether work of this priority must not overtake the head (when the head could not evict it).

    Equal priority may overtake the head until the head has waited for long, or has a reservation with a time.
    """
    head = state.head_reservation
    return head is not None and (priority < head.priority or _is_protected(state, head.row))


def _guards(state: PassState, nodes: Sequence[int]) -> dict[int, HeadGuard]:
    """By bin the guard of the capacity that is reserved for the head."""
    head = state.head_reservation
    if head is None:
        return {}
    held = {bin_: head.on_node(node) for bin_, node in enumerate(nodes)}
    return {bin_: HeadGuard(part) for bin_, part in held.items() if part is not None}


def nearest_nodes(state: PassState, rows: Sequence[int], closed: Collection[int]) -> list[int]:
    """Rows of the nodes with the smallest shortfall for these deployments: at most 64, none of `closed`."""
    snapshot, capacity = state.snapshot, state.capacity
    nodes = snapshot.nodes
    usable = nodes.schedulable.copy()
    usable[sorted(closed)] = False
    if int(usable.sum()) <= _MOST_NODES:
        found: list[int] = np.flatnonzero(usable).tolist()
        return found
    shapes = list(dict.fromkeys(state.queue.shape(row) for row in rows))[:_MOST_SHAPES]
    chosen: set[int] = set()
    for shape in shapes:
        request = state.request_for(shape)
        gpu = capacity.whole_gpus if request.whole_devices else capacity.largest_fraction
        distance = shortfall_distance(request, capacity.idle_cpu, capacity.idle_ram, gpu)
        possible = fits_empty_nodes(nodes, request, request.eligible & usable)
        near = np.argsort(np.where(possible, distance, np.inf), kind="stable")
        chosen.update(near[: min(int(possible.sum()), _MOST_NODES // len(shapes))].tolist())
    return sorted(chosen)


def build_subproblem(
    state: PassState, nodes: Sequence[int], movable: Sequence[Movable], rows: Sequence[int]
) -> Subproblem | None:
    """The subproblem for these nodes and deployments; None if no moves could place any waiting deployment."""
    bin_of = {node: bin_ for bin_, node in enumerate(nodes)}
    items = [
        Item(one.request, one.priority, _bins(one.request, nodes), bin_of[one.node], one.devices, one.guarded)
        for one in movable
    ]
    waiting = [_waiting_item(state, row, nodes) for row in rows]
    capacity = state.capacity
    gpu = [capacity.idle_gpu[node, : capacity.nodes.gpu_count[node]].tolist() for node in nodes]
    packing = Packing(
        [int(capacity.idle_cpu[node]) for node in nodes],
        [int(capacity.idle_ram[node]) for node in nodes],
        gpu,
        [*items, *waiting],
        _guards(state, nodes),
    )
    may_fit = [packing.may_fit(len(items) + position) for position in range(len(rows))]
    if not any(may_fit):
        return None
    return Subproblem(nodes, movable, rows, packing)


def _waiting_item(state: PassState, row: int, nodes: Sequence[int]) -> Item:
    request = state.request_for(state.queue.shape(row))
    priority = state.queue.priority(row)
    head = state.head_reservation is not None and state.head_reservation.row == row
    guarded = not head and state.must_respect_head(row) and is_guarded_against(state, priority)
    return Item(request, priority, _bins(request, nodes), NO_BIN, (), guarded)


def _bins(request: Request, nodes: Sequence[int]) -> frozenset[int] | None:
    if request.eligible_everywhere:
        return None
    return frozenset(bin_ for bin_, node in enumerate(nodes) if request.eligible[node])


def _is_protected(state: PassState, row: int) -> bool:
    """Whether no deployment may overtake it: it has waited for long, or has a reservation with a time."""
    head, since = state.head_reservation, state.queue.pending.eligible_since[row]
    if head is not None and head.row == row and not isinf(head.latest_start):
        return True
    return float(state.snapshot.now - since) >= state.policy.overtake_limit_seconds


def _may_ever_start(state: PassState, request: Request) -> bool:
    return bool(fits_empty_nodes(state.snapshot.nodes, request, request.eligible).any())
