"""The reservation of a blocked head with one replica: its node, and when it can start there.

Where the ends of running work are known, the head reserves the node where it can start first. Others may
start there if they end before that, or if they take only capacity that the head does not need. Where no end
is known, the head reserves its nearest node: the one with the smallest shortfall after everything that the
head may evict. Others may start there if that does not increase the head's shortfall. Work that the head
could evict is never delayed.
"""

from __future__ import annotations

from math import inf

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.feasibility import fits_capacity_arrays
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.passes.head_capacity import CapacityArrays, capacity_at, head_capacity
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.passes.pass_state import PassState
from hypervisor.scheduling.queueing.queue import QueueEntry
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Float64, Int64


def single_reservation(state: PassState, entry: QueueEntry, admissible: Bool) -> HeadReservation:
    """The reservation of the head; `admissible` marks the nodes that are large enough for it."""
    request = entry.request
    available, staying = head_capacity(state, entry)
    starts = _earliest_starts(state, request, admissible, staying, available)
    node = int(starts.argmin())
    if starts[node] < inf:
        available = capacity_at(state, staying, available, float(starts[node]))
    else:
        distance = shortfall_distance(
            request, available[0], available[1], _available_gpu(request, available[2])
        )
        node = int(np.where(admissible, distance, inf).argmin())
    return HeadReservation(
        state.queue.deployment_id(entry.row),
        state.queue.priority(entry.row),
        node,
        request,
        int(available[0][node]),
        int(available[1][node]),
        available[2][node].tolist(),
        latest_start=max(state.snapshot.now, float(starts[node])),
    )


def _earliest_starts(
    state: PassState, request: Request, admissible: Bool, staying: Bool, available: CapacityArrays
) -> Float64:
    """Per node the time when the request fits, by `available` and the ends until then; +inf for never.

    A binary search over the known ends, for all nodes at once.
    """
    table = state.candidates.table
    ends = np.unique(table.ends_at[staying & np.isfinite(table.ends_at)])
    low = np.zeros(len(admissible), np.int64)
    high = np.full(len(admissible), len(ends))
    while (low < high).any():
        middle = np.minimum((low + high) // 2, len(ends) - 1)
        ended = staying & (table.ends_at <= ends[middle][table.node])
        cpu, ram, gpu = state.capacity.usage_of(table, ended)
        fits = fits_capacity_arrays(
            request, admissible, available[0] + cpu, available[1] + ram, available[2] + gpu
        )
        is_open = low < high
        high = np.where(is_open & fits, middle, high)
        low = np.where(is_open & ~fits, middle + 1, low)
    starts: Float64 = np.append(ends, inf)[high]
    return starts


def _available_gpu(request: Request, gpu: Int64) -> Int64:
    """Per node the number of idle devices for whole requests, else the idle milli-GPU of the best device."""
    available: Int64 = (gpu == WHOLE_GPU).sum(axis=1) if request.whole_devices else gpu.max(axis=1)
    return available
