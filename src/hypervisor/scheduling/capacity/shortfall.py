"""How much a request lacks: on the devices of one node, and as a distance from many nodes."""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Float64, Int64


def gpu_shortfall(request: Request, gpu: list[int]) -> int:
    """Missing devices for whole requests; missing milli-GPU on the best device for a fraction.

    For several fractions, those of the replicas of a gang, the number of missing fractions.
    """
    if request.whole_devices:
        return max(0, request.device_count - gpu.count(WHOLE_GPU))
    if request.device_count > 1:
        return max(0, request.device_count - sum(max(0, free) // request.milli_per_device for free in gpu))
    return max(0, request.milli_per_device - max(gpu)) if request.device_count else 0


def shortfall_distance(request: Request, cpu: Int64, ram: Int64, gpu: Int64) -> Float64:
    """How far each node is from fitting: the sum over resources of the missing part of the request.

    `gpu` per node is the number of idle devices for whole requests, else the milli-GPU of the best device.
    """
    distance = np.zeros(len(cpu))
    needs = request.device_count if request.whole_devices else request.milli_per_device
    for need, available in ((request.cpu, cpu), (request.ram, ram), (needs, gpu)):
        if need:
            distance += np.maximum(need - available, 0) / need
    return distance
