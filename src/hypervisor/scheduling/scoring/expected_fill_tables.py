"""The look-up tables of the expected fill; `scoring/expected_fill.py` explains them.

They hold integers, so a value is the same on every machine. Amounts of GPU are milli-GPU x SCALE, and weights
sum to about WEIGHT.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log2

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.snapshot import Int64, Shape

SCALE = 1 << 10
WEIGHT = 1 << 16
HORIZON = 128
"""The number of random requests that arrive before the fill is measured."""
ROWS, COLUMNS = 128, 256
STRIDE = COLUMNS + 2
"""The cells of a surface, by CPU or RAM and by GPU, and the length of one of its rows in memory."""
PART_BITS = 8
PART = 1 << PART_BITS
"""Interpolation between cells has steps of 1/256."""
_STEPS_PER_OCTAVE = 4

TypicalRequest = tuple[int, int, int, int]
"""CPU, RAM and GPU in milli-CPU, MiB and milli-GPU, and the weight of a typical request."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedFillTables:
    """The GPU that a random stream of requests still fills.

    `device[free]` is for a partly used device, `full[count]` for wholly idle devices. The surfaces map (CPU
    or RAM of a node, fillable GPU of its devices alone) to the fill that this CPU or RAM allows. They are
    flat: `ROWS + 2` rows of STRIDE cells. `ram` is None if no request needs RAM.
    """

    device: Int64
    full: Int64
    cpu: Int64
    ram: Int64 | None


def weighted(typical: Sequence[tuple[Shape, float]]) -> tuple[tuple[Shape, int], ...]:
    """The typical requests that need a GPU, with coarse integer weights.

    The target workload changes a little with every deployment. With weights in steps of a quarter octave, the
    tables of the last pass often stay valid for the next one.
    """
    chosen = [(shape, weight) for shape, weight in typical if shape.gpu_milli and weight > 0]
    coarse = [2 ** (round(_STEPS_PER_OCTAVE * log2(weight)) / _STEPS_PER_OCTAVE) for _, weight in chosen]
    total = sum(sorted(coarse))
    pairs = [
        (shape, max(1, round(WEIGHT * each / total))) for (shape, _), each in zip(chosen, coarse, strict=True)
    ]
    return tuple(sorted(pairs, key=lambda pair: _sort_key(pair[0])))


@lru_cache(maxsize=32)
def expected_fill_tables(
    typical: tuple[TypicalRequest, ...], most_cpu: int, most_ram: int, width: int
) -> ExpectedFillTables:
    """The tables for nodes with at most this much CPU and RAM, and `width` devices."""
    amounts: dict[int, int] = {}
    for _, _, milli, weight in typical:
        amounts[milli] = amounts.get(milli, 0) + weight
    device = _device_table(amounts)
    cpu, ram, gpu, weights = np.array(typical, np.int64).reshape(-1, 4).T
    tables = ExpectedFillTables(
        device=device,
        full=_full_table(amounts, device, width),
        cpu=_surface(cpu, gpu, weights, most_cpu, width),
        ram=_surface(ram, gpu, weights, most_ram, width) if ram.any() else None,
    )
    for array in (tables.device, tables.full, tables.cpu, tables.ram):
        if array is not None:
            array.setflags(write=False)
    return tables


def _device_table(amounts: dict[int, int]) -> Int64:
    """By idle milli-GPU, the average fill by the requests of the horizon if each is accepted where it fits.

    Wholly idle devices count in `full`, so the last entry is 0.
    """
    table = np.zeros(WHOLE_GPU + 1, np.int64)
    for _ in range(HORIZON):
        gain = np.zeros_like(table)
        for gpu, weight in amounts.items():
            if gpu < WHOLE_GPU:
                gain[gpu:] += weight * (gpu * SCALE + table[:-gpu] - table[gpu:])
        table += gain // WEIGHT
    table[WHOLE_GPU] = 0
    return table


def _full_table(amounts: dict[int, int], device: Int64, width: int) -> Int64:
    """The fill by number of idle devices. A fraction opens one device; its rest is for other fractions."""
    table = np.zeros(width + 1, np.int64)
    for _ in range(HORIZON):
        gain = np.zeros_like(table)
        for gpu, weight in amounts.items():
            devices = -(-gpu // WHOLE_GPU)
            if devices <= width:
                filled = gpu * SCALE + (int(device[WHOLE_GPU - gpu]) if gpu < WHOLE_GPU else 0)
                gain[devices:] += weight * (filled + table[: width + 1 - devices] - table[devices:])
        table += gain // WEIGHT
    return table


def _surface(need: Int64, gpu: Int64, weight: Int64, most: int, width: int) -> Int64:
    """By (amount of a resource, GPU) the fill when random requests arrive until none fits.

    Each value is an average over the requests that fit: the fill of a request, plus the value at the amount
    less `need` and the GPU less `gpu`, interpolated between cells. Every request takes at least one cell of
    GPU, so a column depends only on the columns before it.
    """
    down, down_part = _cells(need, ROWS, max(1, most))
    right, right_part = _cells(gpu, COLUMNS, width * WHOLE_GPU)
    right_part[right <= 1] = 0
    right = np.maximum(right, 1)
    order = np.argsort(right, kind="stable")
    down, down_part, right, right_part = down[order], down_part[order], right[order], right_part[order]
    rows = np.arange(ROWS + 1)
    weights = np.where(rows >= down[:, None], weight[order][:, None], 0)
    lower = np.clip(rows - down[:, None], 0, ROWS)
    upper = np.minimum(lower + 1, ROWS)
    filled = gpu[order][:, None] * SCALE
    moved = np.zeros((len(gpu), COLUMNS + 2, ROWS + 1), np.int64)  # columns, moved by each request's need
    surface = np.zeros((ROWS + 2, STRIDE), np.int64)
    below, above = down_part[:, None], PART - down_part[:, None]
    later, earlier = right_part[:, None], PART - right_part[:, None]
    fitting = np.searchsorted(right, np.arange(COLUMNS + 1), "right").tolist()
    for column in range(right[0] if len(right) else COLUMNS + 1, COLUMNS + 1):
        some = np.arange(fitting[column])
        left = column - right[some]
        rest = moved[some, left] * earlier[some] + moved[some, left + 1] * later[some]
        total = (weights[some] * (filled[some] + rest // PART)).sum(axis=0)
        values = total // np.maximum(weights[some].sum(axis=0), 1)
        surface[: ROWS + 1, column] = values
        moved[:, column] = (values[lower] * above + values[upper] * below) // PART
    surface[ROWS + 1] = surface[ROWS]
    surface[:, COLUMNS + 1] = surface[:, COLUMNS]
    return surface.reshape(-1)


def _cells(amounts: Int64, cells: int, most: int) -> tuple[Int64, Int64]:
    """Each amount in cells, rounded up, and the excess from rounding in 256ths of a cell."""
    up = -(-amounts * cells // most)
    return up, (up * most - amounts * cells) * PART // most


def _sort_key(shape: Shape) -> tuple[object, ...]:
    return (shape.gpu_milli, shape.cpu_milli, shape.ram_mib, shape.gpu_models, shape.node_selector)
