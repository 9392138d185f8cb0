"""A unit of work as a workload describes it."""

from __future__ import annotations

from dataclasses import dataclass

from hypervisor.kernel.priority import DEFAULT_PRIORITY
from hypervisor.kernel.resources import MILLI
from hypervisor.scheduling.snapshots.snapshot import Shape

MOST_REPLICAS = 64
"""As many as a deployment may have."""


@dataclass(frozen=True, slots=True)
class Job:
    """What arrives, needs `shape` for `duration` seconds (infinite: until the simulation ends), and leaves.

    `arrival` is in seconds since the first arrival of its workload. `id` counts arrivals from 1 and is the
    deployment id that the scheduler sees. `shape` is what each of the `replicas` needs; they `spread` over
    nodes or are packed. What is `divisible` may be split into replicas where no node is large enough for it.
    Each run is safe from eviction for `min_runtime` seconds.
    """

    id: int
    arrival: float
    duration: float
    shape: Shape
    organization: str = "default"
    priority: int = DEFAULT_PRIORITY
    preemptible: bool = True
    replicas: int = 1
    divisible: bool = False
    spread: bool = False
    min_runtime: float = 0.0

    @property
    def gpu_milli(self) -> int:
        """Of all replicas together."""
        return self.shape.gpu_milli * self.replicas

    @property
    def gpus(self) -> float:
        """Devices of all replicas together."""
        return self.gpu_milli / MILLI

    @property
    def cores(self) -> float:
        """CPU cores of all replicas together."""
        return self.shape.cpu_milli * self.replicas / MILLI
