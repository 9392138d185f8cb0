"""The reservation of a blocked gang at the head of the queue: capacity for all its replicas, node by node.

Where the ends of running work are known, the gang reserves the nodes on which all replicas can start first.
Else it reserves the capacity that is free already, and the nearest node for the next replica. So capacity for
the gang accumulates; smaller work behind the gang cannot take it piece by piece.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import inf

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.replicas import assign_replicas, replicas_per_node
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.passes.head_capacity import CapacityArrays, capacity_at, head_capacity
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64


def gang_reservation(state: PassState, entry: QueueEntry, admissible: Bool) -> HeadReservation:
    """The reservation of a gang that fits into the empty cluster.

    `admissible` marks the nodes that are large enough for one replica.
    """
    queue, request = state.queue, entry.request
    replicas = queue.replicas(entry.row)
    available, staying = head_capacity(state, entry)
    start, available = _earliest(state, request, replicas, admissible, staying, available)
    counts = replicas_per_node(request, admissible, *available)
    no_preference = np.zeros(len(counts), np.int64)
    nodes = assign_replicas(counts, no_preference, replicas, queue.spread(entry.row))
    count_on = Counter(nodes) if nodes is not None else _accumulated(request, admissible, counts, available)
    parts = [_part(state, entry, node, count, available, start) for node, count in sorted(count_on.items())]
    first, *others = parts
    first.other_nodes = {part.node: part for part in others}
    return first


def _part(
    state: PassState, entry: QueueEntry, node: int, count: int, available: CapacityArrays, start: float
) -> HeadReservation:
    """The part of the reservation that is on one node."""
    cpu, ram, gpu = available
    return HeadReservation(
        state.queue.deployment_id(entry.row),
        state.queue.priority(entry.row),
        node,
        _combined(entry.request, count),
        int(cpu[node]),
        int(ram[node]),
        gpu[node].tolist(),
        latest_start=max(state.snapshot.now, start),
    )


def _earliest(
    state: PassState,
    request: Request,
    replicas: int,
    admissible: Bool,
    staying: Bool,
    available: CapacityArrays,
) -> tuple[float, CapacityArrays]:
    """The earliest time at which all replicas fit by the known ends, and the capacity at that time.

    +inf and `available` unchanged, where the known ends do not suffice.
    """
    table = state.candidates.table
    ends = np.unique(table.ends_at[staying & np.isfinite(table.ends_at)])
    low, high = 0, len(ends)
    while low < high:
        middle = (low + high) // 2
        counts = replicas_per_node(request, admissible, *capacity_at(state, staying, available, ends[middle]))
        if int(counts.sum()) >= replicas:
            high = middle
        else:
            low = middle + 1
    if low == len(ends):
        return inf, available
    return float(ends[low]), capacity_at(state, staying, available, float(ends[low]))


def _accumulated(
    request: Request, admissible: Bool, counts: Int64, available: CapacityArrays
) -> Counter[int]:
    """Replicas per node: all that fit, and one more on the nearest node where it does not fit."""
    count_on = Counter({node: int(counts[node]) for node in np.flatnonzero(counts).tolist()})
    empty = admissible & (counts == 0)
    if empty.any():
        cpu, ram, gpu = available
        devices = (gpu == WHOLE_GPU).sum(axis=1) if request.whole_devices else gpu.max(axis=1)
        distance = shortfall_distance(request, cpu, ram, devices)
        count_on[int(np.where(empty, distance, inf).argmin())] = 1
    return count_on


def _combined(request: Request, count: int) -> Request:
    """The request of `count` replicas on one node together."""
    return replace(
        request,
        cpu=request.cpu * count,
        ram=request.ram * count,
        device_count=request.device_count * count,
    )
