"""The look-up tables of the FGD score; `scoring/fgd.py` explains them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Bool, Int64, Shape

SCALE = 1 << 24
STRIDE = WHOLE_GPU + 1
IMPOSSIBLE = int(np.iinfo(np.int64).min // 4)


class FgdTables:
    """Usable idle GPU by the set of typical requests that a node's CPU and RAM admit.

    `device[set * STRIDE + free]` is what requests of one device can use of a device with `free` milli-GPU.
    `several[set, count]` is what requests of several devices can use of `count` idle devices. Both are scaled
    by SCALE. `sets` maps (node kind, CPU step, RAM step) to a set, and `kind` maps a node to its kind. All
    but `kind` are shared with other passes that have the same target workload.
    """

    def __init__(
        self, typical: Sequence[tuple[Shape, float]], eligibility: Eligibility, nodes: int, width: int
    ) -> None:
        self.kind, admitted = node_kinds([shape for shape, _ in typical], eligibility, nodes)
        rows = tuple(tuple(row) for row in admitted.tolist())
        shared = _shared_tables(tuple(typical), rows, width)
        self.cpus, self.rams = shared.cpus, shared.rams
        self.kinds, self.wide, self.deep = len(rows), len(self.cpus) + 1, len(self.rams) + 1
        self.sets, self.count = shared.sets, shared.count
        self.device, self.several = shared.device, shared.several
        self.has_several = bool(self.several.any())
        self._cpus, self._rams = self.cpus.tolist(), self.rams.tolist()

    def set_of(self, cpu: Int64, ram: Int64, nodes: Int64) -> Int64:
        """Per node the number of the set of typical requests that these amounts of CPU and RAM admit."""
        by_cpu = self.cpus.searchsorted(cpu, "right")
        by_ram = self.rams.searchsorted(ram, "right")
        if self.kinds > 1:
            by_cpu += self.kind[nodes] * self.wide
        found: Int64 = self.sets.take(by_cpu * self.deep + by_ram)
        return found

    def set_at(self, cpu: int, ram: int, node: int) -> int:
        """The same for one node, by plain look-ups, which are several times faster."""
        by_cpu = int(self.kind[node]) * self.wide + bisect_right(self._cpus, cpu)
        return int(self.sets[by_cpu * self.deep + bisect_right(self._rams, ram)])


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    """The tables that do not depend on single nodes. They are read-only."""

    cpus: Int64
    rams: Int64
    sets: Int64
    count: int
    device: Int64
    several: Int64


@lru_cache(maxsize=32)
def _shared_tables(
    typical: tuple[tuple[Shape, float], ...], admitted: tuple[tuple[bool, ...], ...], width: int
) -> _Shared:
    """The tables for a target workload, and kinds of nodes that admit these parts of it."""
    shapes = [shape for shape, _ in typical]
    weights = np.array([round(weight * SCALE) for _, weight in typical], np.int64)
    cpus = np.unique(np.array([shape.cpu_milli for shape in shapes], np.int64))
    rams = np.unique(np.array([shape.ram_mib for shape in shapes], np.int64))
    sets, fits = _admitted_sets(shapes, np.array(admitted, np.bool_), cpus, rams)
    device = _device_table(shapes, weights, fits)
    several = _several_table(shapes, weights, fits, width)
    for array in (cpus, rams, sets, device, several):
        array.setflags(write=False)
    return _Shared(cpus, rams, sets, len(fits), device, several)


def _admitted_sets(shapes: Sequence[Shape], admitted: Bool, cpus: Int64, rams: Int64) -> tuple[Int64, Bool]:
    """Table from (kind, CPU step, RAM step) to a set number, and each set as a mask over the requests."""
    cpu_step = np.searchsorted(cpus, [shape.cpu_milli for shape in shapes]) + 1
    ram_step = np.searchsorted(rams, [shape.ram_mib for shape in shapes]) + 1
    by_cpu = np.arange(len(cpus) + 1)[:, None] >= cpu_step
    by_ram = np.arange(len(rams) + 1)[:, None] >= ram_step
    fits = admitted[:, None, None, :] & by_cpu[None, :, None, :] & by_ram[None, None, :, :]
    if not shapes:
        return np.zeros(fits.shape[:3], np.int64).reshape(-1), np.zeros((1, 0), np.bool_)
    unique, number = np.unique(fits.reshape(-1, len(shapes)), axis=0, return_inverse=True)
    return number.reshape(-1).astype(np.int64), unique


def node_kinds(shapes: Sequence[Shape], eligibility: Eligibility, count: int) -> tuple[Int64, Bool]:
    """The kind of each of `count` nodes: which typical requests its model and labels admit."""
    if not shapes:
        return np.zeros(count, np.int64), np.zeros((1, 0), np.bool_)
    admitted = np.stack([eligibility.matching(shape) for shape in shapes], axis=1)
    if admitted.all():
        return np.zeros(count, np.int64), np.ones((1, len(shapes)), np.bool_)
    kinds, kind = np.unique(admitted, axis=0, return_inverse=True)
    return kind.reshape(-1).astype(np.int64), kinds


def _device_table(shapes: Sequence[Shape], weights: Int64, fits: Bool) -> Int64:
    """Flat table (set, free milli-GPU of a device) -> how much of it requests of one device can use."""
    free = np.arange(STRIDE, dtype=np.int64)
    table = np.zeros((len(fits), STRIDE), np.int64)
    for column, shape in enumerate(shapes):
        if shape.gpu_device_count == 1:
            table += np.outer(fits[:, column] * weights[column], free * (free >= shape.gpu_milli_per_device))
    return table.reshape(-1)


def _several_table(shapes: Sequence[Shape], weights: Int64, fits: Bool, width: int) -> Int64:
    """Table (set, number of free devices) -> how much of them requests of several devices can use."""
    free = np.arange(width + 1, dtype=np.int64)
    table = np.zeros((len(fits), width + 1), np.int64)
    for column, shape in enumerate(shapes):
        if shape.gpu_device_count > 1:
            table += np.outer(
                fits[:, column] * weights[column], free * WHOLE_GPU * (free >= shape.gpu_device_count)
            )
    return table
