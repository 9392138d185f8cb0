"""Shrinking a node that is in use: which allocations must end."""

from __future__ import annotations

import numpy as np

from hypervisor.scheduling.preemption.cost import lost_work
from hypervisor.scheduling.snapshots.snapshot import AllocationTable


def victims_to_shrink(
    allocations: AllocationTable, new_cpu: int, new_ram: int, new_gpu_count: int, now: float
) -> tuple[int, ...]:
    """Ids of the allocations that must end so that the rest fits a node of the new size; a minimal set.

    `allocations` are the rows of that one node; `new_cpu` is in milli-CPU, `new_ram` in MiB. Devices from
    `new_gpu_count` on disappear, so allocations that use them must end. The order is that of preemption: the
    most important allocations stay. An administrator requested this, so work that is not preemptible or still
    protected can be a victim too, after all others. Releasing allocations keep their capacity until they have
    ended. They count as ending and are never returned.
    """
    lost = lost_work(allocations, now)
    protected = ~allocations.preemptible | (allocations.protected_until > now)
    order = np.lexsort(
        (allocations.id, allocations.started_at, -lost, -allocations.priority.astype(np.int64), ~protected)
    )
    cpu, ram = new_cpu, new_ram
    victims: list[int] = []
    for row in order.tolist():
        if allocations.releasing[row]:
            continue
        need_cpu, need_ram = int(allocations.cpu_milli[row]), int(allocations.ram_mib[row])
        highest_device = int(allocations.gpu_mask[row]).bit_length()
        if need_cpu <= cpu and need_ram <= ram and highest_device <= new_gpu_count:
            cpu -= need_cpu
            ram -= need_ram
        else:
            victims.append(int(allocations.id[row]))
    return tuple(sorted(victims))
