"""The part of a cluster that is worth repacking: who waits, on which nodes room could be made, as a packing.

Everything is bounded: the search is for a few dozen deployments and nodes, however large the cluster is.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isinf
from typing import TYPE_CHECKING

import numpy as np

from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.passes.backfill import shortfall_distance
from hypervisor.scheduling.repacking.packing import NO_BIN, HeadGuard, Item, Packing
from hypervisor.scheduling.snapshots.requests import Request

if TYPE_CHECKING:
    from hypervisor.scheduling.passes.pass_state import PassState

_MOST_WAITING = 64
_LOOKED_AT = 1_024
_MOST_NODES = 64
_MOST_SHAPES = 8


@dataclass(frozen=True, slots=True)
class Movable:
    """A deployment of one replica that may be elsewhere; `node` is a row of the node table."""

    deployment_id: int
    request: Request
    priority: int
    node: int
    devices: tuple[int, ...]
    guarded: bool


@dataclass(frozen=True, slots=True)
class Subproblem:
    """A packing whose bins are `nodes`; its items are first the movable ones, then those that wait.

    `nodes` and `waiting` are rows of the snapshot's tables; `order` are the waiting items.
    """

    nodes: Sequence[int]
    movable: Sequence[Movable]
    pending_rows: Sequence[int]
    packing: Packing

    @property
    def waiting_items(self) -> Sequence[int]:
        return range(len(self.movable), len(self.movable) + len(self.pending_rows))


def waiting_rows(admission: PassState) -> list[int]:
    """The first pending rows, in queue order, that the pass has left without a place, gangs left out.

    They end at the second one that must not be overtaken: room is guarded for one only.
    """
    queue = admission.queue
    left = queue.order[~admission.placed[queue.order]][:_LOOKED_AT].tolist()
    found: list[int] = []
    possible: dict[int, bool] = {}
    aged = 0
    for row in left:
        if len(found) == _MOST_WAITING:
            break
        shape = queue.shape(row)
        if shape not in possible:
            possible[shape] = _may_ever_start(admission, admission.request_for(shape))
        if admission.nominations.of_row(row) or not possible[shape]:
            continue
        if not queue.is_gang(row):
            found.append(row)
        if _is_aged(admission, row):
            aged += 1
            if aged > 1 or admission.head_reservation is None or admission.head_reservation.row != row:
                break
    return found


def is_guarded_against(admission: PassState, priority: int) -> bool:
    """Whether work of this priority that the head of the queue could not evict must not overtake it.

    Its equals may, until it has waited long or has a reservation in time.
    """
    hold = admission.head_reservation
    return hold is not None and (priority < hold.priority or _is_aged(admission, hold.row))


def _guards(admission: PassState, nodes: Sequence[int]) -> dict[int, HeadGuard]:
    """By bin what the head of the queue gathers there."""
    hold = admission.head_reservation
    if hold is None:
        return {}
    held = {bin_: hold.on_node(node) for bin_, node in enumerate(nodes)}
    return {bin_: HeadGuard(part) for bin_, part in held.items() if part is not None}


def nearest_nodes(admission: PassState, rows: Sequence[int], closed: Collection[int]) -> list[int]:
    """Rows of the nodes where those that wait miss least, at most 64 of them and none that is closed."""
    snapshot, state = admission.snapshot, admission.capacity
    nodes = snapshot.nodes
    usable = nodes.schedulable.copy()
    usable[sorted(closed)] = False
    if int(usable.sum()) <= _MOST_NODES:
        found: list[int] = np.flatnonzero(usable).tolist()
        return found
    shapes = list(dict.fromkeys(admission.queue.shape(row) for row in rows))[:_MOST_SHAPES]
    chosen: set[int] = set()
    for shape in shapes:
        request = admission.request_for(shape)
        gpu = state.whole_gpus if request.whole_devices else state.largest_fraction
        distance = shortfall_distance(request, state.idle_cpu, state.idle_ram, gpu)
        possible = fits_empty_nodes(nodes, request, request.eligible & usable)
        near = np.argsort(np.where(possible, distance, np.inf), kind="stable")
        chosen.update(near[: min(int(possible.sum()), _MOST_NODES // len(shapes))].tolist())
    return sorted(chosen)


def build_subproblem(
    admission: PassState, nodes: Sequence[int], movable: Sequence[Movable], rows: Sequence[int]
) -> Subproblem | None:
    """The ground for these; None where none of those that wait could be placed by any moves there."""
    bin_of = {node: bin_ for bin_, node in enumerate(nodes)}
    items = [
        Item(one.request, one.priority, _bins(one.request, nodes), bin_of[one.node], one.devices, one.guarded)
        for one in movable
    ]
    waiting = [_waiting_item(admission, row, nodes) for row in rows]
    state = admission.capacity
    gpu = [state.idle_gpu[node, : state.nodes.gpu_count[node]].tolist() for node in nodes]
    packing = Packing(
        [int(state.idle_cpu[node]) for node in nodes],
        [int(state.idle_ram[node]) for node in nodes],
        gpu,
        [*items, *waiting],
        _guards(admission, nodes),
    )
    hopeful = [packing.may_fit(len(items) + place) for place in range(len(rows))]
    if not any(hopeful):
        return None
    return Subproblem(nodes, movable, rows, packing)


def _waiting_item(admission: PassState, row: int, nodes: Sequence[int]) -> Item:
    request = admission.request_for(admission.queue.shape(row))
    priority = admission.queue.priority(row)
    head = admission.head_reservation is not None and admission.head_reservation.row == row
    guarded = not head and admission.must_respect_head(row) and is_guarded_against(admission, priority)
    return Item(request, priority, _bins(request, nodes), NO_BIN, (), guarded)


def _bins(request: Request, nodes: Sequence[int]) -> frozenset[int] | None:
    if request.eligible_everywhere:
        return None
    return frozenset(bin_ for bin_, node in enumerate(nodes) if request.eligible[node])


def _is_aged(admission: PassState, row: int) -> bool:
    """Whether nobody may be let past it: it has waited long, or has a reservation in time."""
    hold, since = admission.head_reservation, admission.queue.pending.eligible_since[row]
    if hold is not None and hold.row == row and not isinf(hold.latest_start):
        return True
    return float(admission.snapshot.now - since) >= admission.policy.overtake_limit_seconds


def _may_ever_start(admission: PassState, request: Request) -> bool:
    return bool(fits_empty_nodes(admission.snapshot.nodes, request, request.eligible).any())
