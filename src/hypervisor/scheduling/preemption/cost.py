"""What an eviction costs: the work that it loses."""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import MILLI
from hypervisor.scheduling.snapshots.snapshot import AllocationTable, Float64


def lost_work(allocations: AllocationTable, now: float) -> Float64:
    """Per row the GPU-seconds since the start or the last checkpoint; CPU-seconds for work without GPUs."""
    gpu = np.bitwise_count(allocations.gpu_mask).astype(np.float64) * allocations.gpu_milli_per_device
    amount = np.where(gpu > 0, gpu, allocations.cpu_milli) / MILLI
    lost: Float64 = amount * np.maximum(now - allocations.work_since, 0.0)
    return lost
