"""Amounts that the engine passes to observers: the load of the cluster and the free capacity of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.scheduling.snapshots.snapshot import Int64


@dataclass(slots=True)
class ClusterLoad:
    """Allocated amounts of all nodes together, and the size of the queue."""

    running: int = 0
    cpu_milli: int = 0
    ram_mib: int = 0
    gpu_milli: int = 0
    waiting: int = 0
    waiting_gpu_milli: int = 0


@dataclass(frozen=True, slots=True)
class FreeCapacity:
    """Amounts per node: milli-CPU, MiB, and milli-GPU by device. Observers must not write to the arrays."""

    cpu_milli: Int64
    ram_mib: Int64
    gpu_milli: Int64
