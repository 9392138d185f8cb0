"""What a blocked gang at the head of the queue holds: room for all of its replicas, node by node.

Where the ends of what runs are known, these are the nodes on which all replicas can start first. Else it is
what there is room for already, and the nearest node for the next replica: so the room for a gang gathers
instead of being taken away in pieces by those behind it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.passes.backfill import HeadReservation, RoomArrays, head_room, shortfall_distance
from hypervisor.scheduling.preemption.candidates import EvictionCandidates
from hypervisor.scheduling.preemption.gang import assign_replicas, replicas_per_node
from hypervisor.scheduling.preemption.nominations import ActiveNominations
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Bool, Int64


def reserve_for_gang(
    head: tuple[int, int, int],
    request: Request,
    wanted: tuple[int, bool],
    admissible: Bool,
    state: WorkingState,
    candidates: EvictionCandidates,
    reservations: ActiveNominations,
    *,
    now: float,
    preempts: bool,
) -> HeadReservation:
    """The hold of a gang (deployment id, priority, rank) of `wanted` replicas that are to spread or not.

    `admissible` marks nodes large enough for one replica; the empty cluster could take all of them.
    """
    deployment_id, priority, rank = head
    replicas, spread = wanted
    room, staying = head_room(priority, rank, state, candidates, reservations, preempts=preempts)
    start, room = _earliest(request, replicas, admissible, state, candidates.table, staying, room)
    counts = replicas_per_node(request, admissible, *room)
    nodes = assign_replicas(counts, np.zeros(len(counts), np.int64), replicas, spread)
    held = Counter(nodes) if nodes is not None else _gathering(request, admissible, counts, room)
    cpu, ram, gpu = room
    holds = [
        HeadReservation(
            deployment_id,
            priority,
            node,
            _together(request, count),
            int(cpu[node]),
            int(ram[node]),
            gpu[node].tolist(),
            latest_start=max(now, start),
        )
        for node, count in sorted(held.items())
    ]
    first, *others = holds
    first.other_nodes = {hold.node: hold for hold in others}
    return first


def _earliest(
    request: Request,
    replicas: int,
    admissible: Bool,
    state: WorkingState,
    table: AllocationTable,
    staying: Bool,
    room: RoomArrays,
) -> tuple[float, RoomArrays]:
    """When all replicas fit at the earliest by the known ends, and the room at that time.

    +inf and the room as it is where the known ends do not suffice.
    """
    ends = np.unique(table.ends_at[staying & np.isfinite(table.ends_at)])
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        counts = replicas_per_node(request, admissible, *_after(state, table, staying, room, ends[middle]))
        if int(counts.sum()) >= replicas:
            high = middle
        else:
            low = middle + 1
    if low == len(ends):
        return inf, room
    return float(ends[low]), _after(state, table, staying, room, float(ends[low]))


def _after(
    state: WorkingState, table: AllocationTable, staying: Bool, room: RoomArrays, at: float
) -> RoomArrays:
    cpu, ram, gpu = state.usage_of(table, staying & (table.ends_at <= at))
    return room[0] + cpu, room[1] + ram, room[2] + gpu


def _gathering(request: Request, admissible: Bool, counts: Int64, room: RoomArrays) -> Counter[int]:
    """Every replica that there is room for, and the nearest node without any for the next one."""
    held = Counter({node: int(counts[node]) for node in np.flatnonzero(counts).tolist()})
    empty = admissible & (counts == 0)
    if empty.any():
        cpu, ram, gpu = room
        devices = (gpu == WHOLE_GPU).sum(axis=1) if request.whole_devices else gpu.max(axis=1)
        distance = shortfall_distance(request, cpu, ram, devices)
        held[int(np.where(empty, distance, inf).argmin())] = 1
    return held


def _together(request: Request, count: int) -> Request:
    """What so many replicas need of one node."""
    return replace(
        request, cpu=request.cpu * count, ram=request.ram * count, device_count=request.device_count * count
    )
