"""A workload with more or fewer jobs, drawn at random with a seed."""

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
    """The jobs of `base`, each repeated `copies` times; see `scale`."""

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
    """Multiply the number of jobs by `factor`.

    A factor of 2.3 repeats every job twice, and a third time with probability 0.3. Copies arrive together
    with the original. Raises WorkloadError for a factor that is not above 0 and at most 100.
    """
    if factor == 1.0:
        return workload
    if not 0.0 < factor <= _MOST:
        raise WorkloadError(f"the load must be above 0 and at most {_MOST:g}, not {factor:g}")
    whole = int(factor)
    draws = np.random.default_rng(seed).random(workload.count)
    return ScaledWorkload(workload, factor, (whole + (draws < factor - whole)).astype(np.uint8))
