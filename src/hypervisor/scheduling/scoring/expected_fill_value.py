"""The values of the nodes of one snapshot, from the tables of the expected fill."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.scoring.expected_fill_tables import (
    COLUMNS,
    PART,
    PART_BITS,
    ROWS,
    SCALE,
    STRIDE,
    TypicalRequest,
    expected_fill_tables,
    weighted,
)
from hypervisor.scheduling.scoring.fgd_tables import node_kinds
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Int64, Shape

IMPOSSIBLE = -(1 << 60)
_UNLIMITED = 1 << 40
_IDLE_STEPS = 1 << 10
_MOST_STEPS = 1 << 19
_MOST_KINDS = 8
_RATIO_BITS = 20


class ExpectedFillValue:
    """The values of nodes, now and after a placement, in milli-GPU x SCALE.

    A node's kind is the set of typical requests that its model and labels admit. The eight most common kinds
    have tables; other nodes count as if they admitted everything. `kind` has the kind of each node, `kinds`
    is the number of kinds. Methods accept an array of kinds, or one number for all nodes.
    """

    def __init__(
        self, typical: Sequence[tuple[Shape, float]], eligibility: Eligibility, capacity: WorkingState
    ) -> None:
        nodes = capacity.nodes
        self.width = capacity.width
        self._most_cpu = max(1, int(nodes.cpu_milli.max(initial=1)))
        self._most_ram = max(1, int(nodes.ram_mib.max(initial=1)))
        self.kind, admitted = _kinds(weighted(typical), eligibility, len(nodes))
        self.kinds = len(admitted)
        tables = [expected_fill_tables(each, self._most_cpu, self._most_ram, self.width) for each in admitted]
        self._device = np.concatenate([each.device for each in tables])
        self._full = np.concatenate([each.full for each in tables])
        self._cpu = np.concatenate([each.cpu for each in tables])
        self._ram: Int64 | None = None
        if any(each.ram is not None for each in tables):
            unlimited = np.full(len(tables[0].cpu), _UNLIMITED)
            self._ram = np.concatenate([unlimited if each.ram is None else each.ram for each in tables])
        self._surface = len(tables[0].cpu)
        # The finest steps that keep the largest loss within its bits.
        self._fineness = _MOST_STEPS // (self.width * WHOLE_GPU)

    def fillable(self, kind: Int64 | int, free: Int64, full: Int64) -> Int64:
        """How much the devices can be filled; `free` is per node and device, `full` counts idle devices."""
        start = np.asarray(kind)[..., None] * (WHOLE_GPU + 1) if self.kinds > 1 else 0
        filled: Int64 = self._device.take(start + free, mode="clip").sum(axis=-1)
        filled += self._full.take(kind * (self.width + 1) + full)
        return filled

    def full_change(self, kind: Int64 | int, full: Int64, devices: int) -> Int64:
        """The change of the fillable GPU when `devices` idle devices are taken."""
        start = kind * (self.width + 1)
        left = np.maximum(full - devices, 0)
        changed: Int64 = self._full.take(start + left) - self._full.take(start + full)
        return changed

    def device_change(self, kind: Int64 | int, free: Int64, full: Int64, each: int) -> Int64:
        """The change per node and device if a fraction is placed there; IMPOSSIBLE where it does not fit."""
        start: Int64 | int = np.asarray(kind)[..., None] * (WHOLE_GPU + 1) if self.kinds > 1 else 0
        left = free - each
        change: Int64 = self._device.take(start + left, mode="clip") - self._device.take(
            start + free, mode="clip"
        )
        # The value of a wholly idle device is in the table of counts, not in its own entry.
        change += np.where(free == WHOLE_GPU, self.full_change(kind, full, 1)[..., None], 0)
        change[left < 0] = IMPOSSIBLE
        return change

    def at(self, kind: Int64 | int, cpu: Int64, ram: Int64, fillable: Int64) -> Int64:
        """The value of nodes with this CPU and RAM left and this fillable GPU."""
        column, right = _position(fillable, COLUMNS, self.width * WHOLE_GPU * SCALE)
        start = column + kind * self._surface if self.kinds > 1 else column
        row, down = _position(cpu, ROWS, self._most_cpu)
        value = _between(self._cpu, start + row * STRIDE, down, right)
        if self._ram is not None:
            row, down = _position(ram, ROWS, self._most_ram)
            by_ram = _between(self._ram, start + row * STRIDE, down, right)
            np.minimum(value, by_ram, out=value)
        return value

    def encoded(self, fall: Int64, gpu_milli: Int64 | int, idle: Int64) -> Int64:
        """The score as one number: the fall of the value beyond the request's own GPU, then the idle GPU."""
        steps = (fall - gpu_milli * SCALE) * self._fineness // SCALE
        scores: Int64 = np.clip(steps, -_MOST_STEPS, _MOST_STEPS - 1) * _IDLE_STEPS
        scores += idle * (_IDLE_STEPS - 1) // (self.width * WHOLE_GPU)
        return scores


def _kinds(
    pairs: Sequence[tuple[Shape, int]], eligibility: Eligibility, nodes: int
) -> tuple[Int64, list[tuple[TypicalRequest, ...]]]:
    """The kind of each node, and the typical requests on nodes of each kind."""
    everything = [(shape.cpu_milli, shape.ram_mib, shape.gpu_milli, weight) for shape, weight in pairs]
    kind, masks = node_kinds([shape for shape, _ in pairs], eligibility, nodes)
    admitted = [
        tuple(item for item, admits in zip(everything, row, strict=True) if admits) for row in masks.tolist()
    ]
    if len(admitted) <= _MOST_KINDS:
        return kind, admitted
    common = np.argsort(-np.bincount(kind, minlength=len(admitted)), kind="stable")[: _MOST_KINDS - 1]
    renumbered = np.full(len(admitted), _MOST_KINDS - 1)
    renumbered[common] = np.arange(len(common))
    return renumbered[kind], [*(admitted[number] for number in common.tolist()), tuple(everything)]


def _position(amounts: Int64, cells: int, most: int) -> tuple[Int64, Int64]:
    """The cell of each amount, and by how many 256ths it is beyond the edge of the cell."""
    ratio = (cells * PART << _RATIO_BITS) // most
    position = np.clip((amounts * ratio) >> _RATIO_BITS, 0, cells * PART).astype(np.int64)
    return position >> PART_BITS, position & (PART - 1)


def _between(surface: Int64, cell: Int64, down: Int64, right: Int64) -> Int64:
    """The interpolation between the four corners of a cell."""
    left = PART - right
    upper: Int64 = surface.take(cell) * left + surface.take(cell + 1) * right
    lower: Int64 = surface.take(cell + STRIDE) * left + surface.take(cell + STRIDE + 1) * right
    value: Int64 = upper * (PART - down) + lower * down
    return value >> 2 * PART_BITS
