"""GPU fragmentation: the share of idle GPU capacity that typical requests cannot use.

After FGD (Weng et al., USENIX ATC'23), relative to the idle capacity. A typical GPU request cannot use idle
GPUs on nodes where it does not fit, and idle parts of devices that are too small for it. Requests are
weighted by their number of arrivals.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64, NodeTable, Shape
from hypervisor.simulation.cluster_load import FreeCapacity

_MOST_COUNTED = 256
_MOST_TYPICAL = 32


class Fragmentation:
    """Counts the arriving requests, and measures the free capacity with the most frequent ones."""

    def __init__(self, nodes: NodeTable) -> None:
        self._eligibility = Eligibility(nodes)
        self._arrivals: Counter[Shape] = Counter()

    def arrived(self, shape: Shape) -> None:
        """Count a request. With too many different requests, rare ones are dropped (Misra and Gries)."""
        if not shape.gpu_milli:
            return
        self._arrivals[shape] += 1
        if len(self._arrivals) > _MOST_COUNTED:
            least = sorted(self._arrivals.values())[_MOST_COUNTED // 2]
            counts = self._arrivals.items()
            self._arrivals = Counter({shape: count - least for shape, count in counts if count > least})

    def share(self, free: FreeCapacity) -> float | None:
        """The unusable share of idle GPU capacity, 0 to 1; None without idle GPUs or GPU requests."""
        idle = int(free.gpu_milli.sum())
        typical = self._arrivals.most_common(_MOST_TYPICAL)
        if not idle or not typical:
            return None
        whole_gpus = (free.gpu_milli == WHOLE_GPU).sum(axis=1)
        usable = sum(count * self._usable(shape, free, whole_gpus) for shape, count in typical)
        return 1.0 - usable / (idle * sum(count for _, count in typical))

    def _usable(self, shape: Shape, free: FreeCapacity, whole_gpus: Int64) -> int:
        """Idle milli-GPU that requests of this shape can use."""
        fits: Bool = self._eligibility.schedulable(shape) & (free.cpu_milli >= shape.cpu_milli)
        fits &= free.ram_mib >= shape.ram_mib
        if shape.gpu_device_count > 1:
            return int(whole_gpus[fits & (whole_gpus >= shape.gpu_device_count)].sum()) * WHOLE_GPU
        gpu = free.gpu_milli[fits]
        return int(np.where(gpu >= shape.gpu_milli, gpu, 0).sum())
