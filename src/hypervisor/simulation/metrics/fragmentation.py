"""How much of the idle GPU capacity is of no use to what people ask for.

After FGD (Weng et al., USENIX ATC'23), as a share of what is idle: for each typical request that needs GPUs,
idle GPU on nodes where it does not fit, and idle parts of devices too small for it, are of no use; requests
count by how often they arrived.
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
    """Counts requests as they arrive, and judges the room against the most frequent of them."""

    def __init__(self, nodes: NodeTable) -> None:
        self._eligibility = Eligibility(nodes)
        self._seen: Counter[Shape] = Counter()

    def arrived(self, shape: Shape) -> None:
        """Count it; when there are too many different ones, rare ones are forgotten (Misra and Gries)."""
        if not shape.gpu_milli:
            return
        self._seen[shape] += 1
        if len(self._seen) > _MOST_COUNTED:
            least = sorted(self._seen.values())[_MOST_COUNTED // 2]
            self._seen = Counter({each: n - least for each, n in self._seen.items() if n > least})

    def share(self, room: FreeCapacity) -> float | None:
        """From 0, all idle GPU is of use, to 1; None where no GPU is idle or nobody asks for any."""
        idle = int(room.gpu_milli.sum())
        typical = self._seen.most_common(_MOST_TYPICAL)
        if not idle or not typical:
            return None
        full = (room.gpu_milli == WHOLE_GPU).sum(axis=1)
        usable = sum(count * self._usable(shape, room, full) for shape, count in typical)
        return 1.0 - usable / (idle * sum(count for _, count in typical))

    def _usable(self, shape: Shape, room: FreeCapacity, full: Int64) -> int:
        """Idle milli-GPU that such requests could use."""
        fits: Bool = self._eligibility.schedulable(shape) & (room.cpu_milli >= shape.cpu_milli)
        fits &= room.ram_mib >= shape.ram_mib
        if shape.gpu_device_count > 1:
            return int(full[fits & (full >= shape.gpu_device_count)].sum()) * WHOLE_GPU
        gpu = room.gpu_milli[fits]
        return int(np.where(gpu >= shape.gpu_milli, gpu, 0).sum())
