"""How many replicas of a gang fit, and which node each replica gets.

All replicas of a gang have the same shape. So one number is enough for a node: how many replicas it could
take. A gang fits if these numbers add up to enough. Packed gangs use few nodes, spread gangs use many.
"""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64, NodeTable

_PLENTY = 1 << 20


def replicas_per_node(request: Request, eligible: Bool, cpu: Int64, ram: Int64, gpu: Int64) -> Int64:
    """How many replicas each node could take: `cpu` and `ram` per node, `gpu` per node and device."""
    count = np.where(eligible, _PLENTY, 0)
    if request.cpu:
        count = np.minimum(count, cpu // request.cpu)
    if request.ram:
        count = np.minimum(count, ram // request.ram)
    # A node with an overcommitted resource takes no replica, even of a request that does not use the
    # resource.
    count = np.where((cpu < 0) | (ram < 0), 0, count)
    if request.whole_devices:
        count = np.minimum(count, (gpu == WHOLE_GPU).sum(axis=-1) // request.device_count)
    elif request.device_count:
        count = np.minimum(count, (np.maximum(gpu, 0) // request.milli_per_device).sum(axis=-1))
    return np.maximum(count, 0).astype(np.int64)


def replicas_when_empty(nodes: NodeTable, request: Request, eligible: Bool) -> int:
    """How many replicas these nodes could take together if nothing else ran on them."""
    width = max(1, int(nodes.gpu_count.max(initial=0)))
    gpu = np.where(np.arange(width) < nodes.gpu_count[:, None], WHOLE_GPU, 0)
    return int(replicas_per_node(request, eligible, nodes.cpu_milli, nodes.ram_mib, gpu).sum())


def assign_replicas(counts: Int64, scores: Int64, replicas: int, spread: bool) -> list[int] | None:
    """The node of each replica, or None if they do not all fit.

    Spread: one replica on every node in each round, the best nodes first. Packed: few nodes. The node that
    takes most replicas comes first; among nodes that take all the rest, the best one. `scores` are per node,
    lower is better; ties go to the lower node id.
    """
    if int(counts.sum()) < replicas:
        return None
    chosen = _spread(counts, scores, replicas) if spread else _packed(counts, scores, replicas)
    return sorted(chosen)


def _spread(counts: Int64, scores: Int64, replicas: int) -> list[int]:
    order = np.lexsort((np.arange(len(scores)), scores))
    chosen: list[int] = []
    full_rounds = 0
    while len(chosen) < replicas:
        nodes = order[counts[order] > full_rounds].tolist()
        chosen += nodes[: replicas - len(chosen)]
        full_rounds += 1
    return chosen


def _packed(counts: Int64, scores: Int64, replicas: int) -> list[int]:
    left = counts.copy()
    chosen: list[int] = []
    while len(chosen) < replicas:
        rest = replicas - len(chosen)
        useful = np.minimum(left, rest)
        best = np.flatnonzero(useful == useful.max())
        node = int(best[scores[best].argmin()])
        chosen += [node] * int(useful[node])
        left[node] = 0
    return chosen
