"""Resource amounts as integers, and their conversion from and to the units of the API.

Internally an amount is always an integer: CPU in thousandths of a core, memory in MiB, GPU in thousandths of
a device. Floats exist only in API requests and responses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

MILLI = 1000
MIB_PER_GIB = 1024
WHOLE_GPU = 1000
MIN_GPU_MILLI = 100
"""The smallest fraction of a device that a request may have."""
MAX_EDGE_VALUE = 2**53


class InvalidAmount(ValueError):
    """A resource amount that cannot be represented. The message names the resource and the reason."""


@dataclass(frozen=True, slots=True, order=False)
class Resources:
    """An amount of each resource: `cpu_milli` (1/1000 core), `ram_mib` (MiB), `gpu_milli` (1/1000 device)."""

    cpu_milli: int = 0
    ram_mib: int = 0
    gpu_milli: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_milli + other.cpu_milli, self.ram_mib + other.ram_mib, self.gpu_milli + other.gpu_milli
        )

    def __sub__(self, other: Resources) -> Resources:
        return Resources(
            self.cpu_milli - other.cpu_milli, self.ram_mib - other.ram_mib, self.gpu_milli - other.gpu_milli
        )

    def fits_in(self, capacity: Resources) -> bool:
        """Whether every component is at most that of `capacity`. GPU shape is not considered."""
        return (
            self.cpu_milli <= capacity.cpu_milli
            and self.ram_mib <= capacity.ram_mib
            and self.gpu_milli <= capacity.gpu_milli
        )

    def shortfall(self, capacity: Resources) -> Resources:
        """The amount missing in `capacity` per component; zero where it fits."""
        return Resources(
            max(0, self.cpu_milli - capacity.cpu_milli),
            max(0, self.ram_mib - capacity.ram_mib),
            max(0, self.gpu_milli - capacity.gpu_milli),
        )

    @property
    def is_zero(self) -> bool:
        return not (self.cpu_milli or self.ram_mib or self.gpu_milli)

    @classmethod
    def from_edge(cls, *, cpu_cores: float, ram_gb: float, gpu_count: float) -> Self:
        """Convert API units (cores, GiB, devices) to integers, rounded up to the next unit.

        Raises InvalidAmount for values that are negative, NaN, infinite or above 2**53.
        """
        return cls(
            cpu_milli=_to_units("CPU cores", cpu_cores, MILLI),
            ram_mib=_to_units("RAM in GB", ram_gb, MIB_PER_GIB),
            gpu_milli=_to_units("GPU count", gpu_count, MILLI),
        )

    @property
    def cpu_cores(self) -> float:
        return self.cpu_milli / MILLI

    @property
    def ram_gb(self) -> float:
        return self.ram_mib / MIB_PER_GIB

    @property
    def gpu_count(self) -> float:
        return self.gpu_milli / MILLI


def check_gpu_request(gpu_milli: int) -> None:
    """Accept 0, a fraction of one device (100..999 milli), or whole devices. Raises InvalidAmount."""
    if 0 < gpu_milli < MIN_GPU_MILLI:
        raise InvalidAmount(
            f"the smallest fraction of a GPU is {MIN_GPU_MILLI / WHOLE_GPU:g}, not {gpu_milli / WHOLE_GPU:g}"
        )
    if gpu_milli > WHOLE_GPU and gpu_milli % WHOLE_GPU:
        raise InvalidAmount(
            "a GPU request must be a fraction below 1 or a whole number of devices, "
            f"not {gpu_milli / WHOLE_GPU:g}"
        )


def _to_units(name: str, value: float, scale: int) -> int:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidAmount(f"{name} must be a finite number")
    if value < 0:
        raise InvalidAmount(f"{name} must not be negative")
    if value > MAX_EDGE_VALUE // scale:
        raise InvalidAmount(f"{name} is too large")
    nearest = round(value * scale)
    # A rounding error of a float (0.1 + 0.2 cores) must not add a unit; any larger excess does.
    return nearest if math.isclose(nearest / scale, value, rel_tol=1e-9) else math.ceil(value * scale)
