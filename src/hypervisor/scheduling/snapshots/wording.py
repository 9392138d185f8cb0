"""Amounts in the units that people use: cores, GB, GPUs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypervisor.kernel.resources import Resources


def number(amount: float) -> str:
    """At most three decimals; none for whole numbers."""
    return f"{round(amount, 3):g}" if abs(amount) < 1e6 else f"{amount:.0f}"


def gpus(milli: int) -> str:
    return f"{number(milli / 1000)} GPU" + ("" if milli <= 1000 else "s")


def cores(milli: int) -> str:
    return f"{number(milli / 1000)} CPU core" + ("" if milli == 1000 else "s")


def ram(mib: int) -> str:
    return f"{number(mib / 1024)} GB RAM"


def amounts(resources: Resources) -> list[str]:
    """Each amount that is not zero, the scarcest resource first: GPUs, RAM, CPU."""
    parts = []
    if resources.gpu_milli:
        parts.append(gpus(resources.gpu_milli))
    if resources.ram_mib:
        parts.append(ram(resources.ram_mib))
    if resources.cpu_milli:
        parts.append(cores(resources.cpu_milli))
    return parts


def listed(parts: Sequence[str], last: str = "and") -> str:
    """ "a", "a and b", "a, b and c"."""
    if len(parts) <= 1:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def described(resources: Resources) -> str:
    return listed(amounts(resources)) or "nothing"


def span(seconds: float) -> str:
    """A length of time in its two largest units: "42 s", "3 min 20 s", "2 h 10 min", "4 d 1 h"."""
    left = round(seconds)
    for (unit, size), (small, grain) in pairwise((("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))):
        if left >= size:
            rest = left % size // grain
            return f"{left // size} {unit}" + (f" {rest} {small}" if rest else "")
    return f"{left} s"


def gaps(free: Resources, missing: Resources) -> list[str]:
    """Per short resource what is free and what is missing."""
    found = []
    if missing.gpu_milli:
        found.append(f"{gpus(free.gpu_milli)} free ({number(missing.gpu_milli / 1000)} short)")
    if missing.ram_mib:
        found.append(f"{ram(free.ram_mib)} free ({number(missing.ram_mib / 1024)} short)")
    if missing.cpu_milli:
        found.append(f"{cores(free.cpu_milli)} free ({number(missing.cpu_milli / 1000)} short)")
    return found
