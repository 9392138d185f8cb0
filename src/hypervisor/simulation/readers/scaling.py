"""More or less of the same work, by drawing jobs with a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hypervisor.simulation.errors import WorkloadError
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.readers.workload import Workload

_MOST = 100.0


@dataclass(frozen=True, slots=True)
class ScaledWorkload:
    """Each job of another workload some whole number of times; see `scale`."""

    base: Workload
    factor: float
    copies: NDArray[np.uint8]

    @property
    def name(self) -> str:
        return f"{self.base.name} x {self.factor:g}"

    @property
    def count(self) -> int:
        return int(self.copies.sum())

    @property
    def span(self) -> float:
        return self.base.span

    @property
    def origin(self) -> float | None:
        return self.base.origin

    def jobs(self) -> Iterator[Job]:
        number = 0
        for job, copies in zip(self.base.jobs(), self.copies.tolist(), strict=True):
            for _ in range(copies):
                number += 1
                yield replace(job, id=number)


def scale(workload: Workload, factor: float, seed: int) -> Workload:
    """The work times `factor`: each job the whole part of it times, and once more with the rest's chance.

    Copies arrive together with their original. Raises WorkloadError for a factor that is not above 0.
    """
    if factor == 1.0:
        return workload
    if not 0.0 < factor <= _MOST:
        raise WorkloadError(f"the load must be above 0 and at most {_MOST:g}, not {factor:g}")
    whole = int(factor)
    draws = np.random.default_rng(seed).random(workload.count)
    return ScaledWorkload(workload, factor, (whole + (draws < factor - whole)).astype(np.uint8))
