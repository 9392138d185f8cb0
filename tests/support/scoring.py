"""The placement scores, computed plainly from their definitions, node by node and request by request."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.scoring.expected_fill_tables import (
    COLUMNS,
    ROWS,
    STRIDE,
    ExpectedFillTables,
    expected_fill_tables,
    weighted,
)
from hypervisor.scheduling.scoring.expected_fill_tables import SCALE as FILL_SCALE
from hypervisor.scheduling.scoring.target_workload import target_workload
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Int64, NodeTable, Shape, Snapshot

_SCALE = 1 << 24
_SHARE = 1_000_000
FreeCapacity = tuple[int, int, list[int]]
Typical = Sequence[tuple[Shape, float]]
Reference = Callable[[int], int | tuple[int, int]]


def idle_on(state: WorkingState, node: int) -> FreeCapacity:
    return int(state.idle_cpu[node]), int(state.idle_ram[node]), state.idle_gpu[node].tolist()


def fits(shape: Shape, free: FreeCapacity) -> bool:
    cpu, ram, gpu = free
    enough = sum(free >= shape.gpu_milli_per_device for free in gpu) >= shape.gpu_device_count
    return cpu >= shape.cpu_milli and ram >= shape.ram_mib and (enough or not shape.gpu_milli)


def best_node(
    state: WorkingState,
    shape: Shape,
    eligible: Sequence[bool],
    loss: Callable[[int], int | tuple[int, int]],
) -> int | None:
    """The fitting node with the least loss, ties to the first; None without a fitting node."""
    fitting = [
        node for node in range(len(state.nodes)) if eligible[node] and fits(shape, idle_on(state, node))
    ]
    return min(fitting, key=lambda node: (loss(node), node), default=None)


def fgd_loss(typical: Typical, free: FreeCapacity, shape: Shape) -> tuple[int, int]:
    """Missing points of 100 and the idle GPU of the node: F's growth by its definition in the FGD paper.

    `typical` are the typical requests that the node's model and labels admit.
    """
    before = _unusable(typical, free)
    growth = min(_unusable(typical, after) - before for after in _placed(shape, free))
    points = sum(growth <= -_threshold(step / 100) for step in range(1, 100))
    return 100 - points, sum(free[2])


def bestfit_loss(nodes: NodeTable, free: FreeCapacity, shape: Shape) -> int:
    largest = (int(nodes.cpu_milli.max()), int(nodes.ram_mib.max()), int(nodes.gpu_count.max()) * 1000)
    return sum(left * _SHARE // max(1, size) for left, size in zip(_left(free, shape), largest, strict=True))


def spread_loss(nodes: NodeTable, node: int, free: FreeCapacity, shape: Shape) -> int:
    own = (int(nodes.cpu_milli[node]), int(nodes.ram_mib[node]), max(1, int(nodes.gpu_count[node])) * 1000)
    return -sum(left * _SHARE // max(1, size) for left, size in zip(_left(free, shape), own, strict=True))


def _left(free: FreeCapacity, shape: Shape) -> tuple[int, int, int]:
    cpu, ram, gpu = free
    return cpu - shape.cpu_milli, ram - shape.ram_mib, sum(gpu) - shape.gpu_milli


def _threshold(share: float) -> int:
    return round(math.log(share / (1 - share)) * 1000 * _SCALE)


def _placed(shape: Shape, free: FreeCapacity) -> list[FreeCapacity]:
    """The node with the request on it: one outcome per device for a fraction."""
    cpu, ram, gpu = free[0] - shape.cpu_milli, free[1] - shape.ram_mib, free[2]
    if 0 < shape.gpu_milli < 1000:
        usable = [device for device, milli in enumerate(gpu) if milli >= shape.gpu_milli]
        return [
            (cpu, ram, [milli - shape.gpu_milli * (i == device) for i, milli in enumerate(gpu)])
            for device in usable
        ]
    left, missing = list(gpu), shape.gpu_device_count
    for device, milli in enumerate(gpu):
        if milli == 1000 and missing:
            left[device], missing = 0, missing - 1
    return [(cpu, ram, left)]


def _unusable(typical: Typical, free: FreeCapacity) -> int:
    """F: the idle GPU that each typical request could not use, weighted."""
    total = 0
    for shape, weight in typical:
        usable = 0
        if shape.gpu_milli and fits(shape, free):
            usable = sum(free for free in free[2] if free >= shape.gpu_milli_per_device)
        total += round(weight * _SCALE) * (sum(free[2]) - usable)
    return total + (_SCALE - sum(round(weight * _SCALE) for _, weight in typical)) * sum(free[2])


def fill_loss(
    state: WorkingState, admitted: Typical, typical: Typical, free: FreeCapacity, shape: Shape
) -> int:
    """The loss of a node's value beyond the request, and its idle GPU, one by one from the tables.

    `typical` are all typical requests, `admitted` those that the node's model and labels admit.
    """
    width = state.width
    most = int(state.nodes.cpu_milli.max()), int(state.nodes.ram_mib.max())
    allowed = {shape for shape, _ in admitted}
    weighted_requests = tuple(
        (item.cpu_milli, item.ram_mib, item.gpu_milli, weight)
        for item, weight in weighted(typical)
        if item in allowed
    )
    tables = expected_fill_tables(weighted_requests, *most, width)
    now = _value(tables, free, _fillable(tables, free[2]), most, width)
    after = max((_fillable(tables, left), left) for _, _, left in _placed(shape, free))
    left = _value(tables, (free[0] - shape.cpu_milli, free[1] - shape.ram_mib, []), after[0], most, width)
    steps = (now - left - shape.gpu_milli * FILL_SCALE) * ((1 << 19) // (width * 1000)) // FILL_SCALE
    return steps * 1024 + sum(free[2]) * 1023 // (width * 1000)


def _fillable(tables: ExpectedFillTables, gpu: list[int]) -> int:
    return sum(int(tables.device[free]) for free in gpu if free < 1000) + int(tables.full[gpu.count(1000)])


def _value(
    tables: ExpectedFillTables, free: FreeCapacity, fillable: int, most: tuple[int, int], width: int
) -> int:
    column = _cell(fillable, COLUMNS, width * 1000 * FILL_SCALE)
    values = [_corners(tables.cpu, _cell(free[0], ROWS, most[0]), column)]
    if tables.ram is not None:
        values.append(_corners(tables.ram, _cell(free[1], ROWS, most[1]), column))
    return min(values)


def _cell(amount: int, cells: int, most: int) -> tuple[int, int]:
    return divmod(min(amount * ((cells * 256 << 20) // most) >> 20, cells * 256), 256)


def _corners(surface: Int64, row: tuple[int, int], column: tuple[int, int]) -> int:
    """The value between the corners of a cell, by the distance from each."""
    total = 0
    for down, down_weight in ((0, 256 - row[1]), (1, row[1])):
        for right, right_weight in ((0, 256 - column[1]), (1, column[1])):
            corner = surface[(row[0] + down) * STRIDE + column[0] + right]
            total += int(corner) * down_weight * right_weight
    return total >> 16


def _target_workload(snapshot: Snapshot) -> Typical:
    return target_workload(snapshot, Policy())


def _admitted(snapshot: Snapshot) -> Callable[[int], Typical]:
    """By node the typical requests that its model and labels admit."""
    typical, eligibility = _target_workload(snapshot), Eligibility(snapshot.nodes)
    return lambda node: [item for item in typical if eligibility.matching(item[0])[node]]


def _fgd(snapshot: Snapshot, state: WorkingState, shape: Shape) -> Reference:
    admitted = _admitted(snapshot)
    return lambda node: fgd_loss(admitted(node), idle_on(state, node), shape)


def _fill(snapshot: Snapshot, state: WorkingState, shape: Shape) -> Reference:
    admitted, typical = _admitted(snapshot), _target_workload(snapshot)
    return lambda node: fill_loss(state, admitted(node), typical, idle_on(state, node), shape)


def _bestfit(snapshot: Snapshot, state: WorkingState, shape: Shape) -> Reference:
    return lambda node: bestfit_loss(snapshot.nodes, idle_on(state, node), shape)


def _spread(snapshot: Snapshot, state: WorkingState, shape: Shape) -> Reference:
    return lambda node: spread_loss(snapshot.nodes, node, idle_on(state, node), shape)


REFERENCE_SCORES: dict[str, Callable[[Snapshot, WorkingState, Shape], Reference]] = {
    "fgd": _fgd,
    "fill": _fill,
    "bestfit": _bestfit,
    "spread": _spread,
}
"""The plain definition of each placement policy: the score of a shape by node, lower is better."""
