"""The target workload: the typical requests that fragmentation is measured against."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot

_COVERED = 0.95
_MOST = 64
_COARSE_FROM = 512

Weighted = tuple[Shape, float]


def target_workload(snapshot: Snapshot, policy: Policy) -> list[Weighted]:
    """The policy's typical requests, or those of the snapshot; weights sum to 1.

    As in the FGD paper: the most popular shapes, until they cover 95 % of all requests; at most 64. If there
    are very many distinct shapes, they are first rounded to a coarse grid, because each alone is too rare.
    """
    if policy.target_workload is not None:
        return _normalised(list(policy.target_workload))
    counts = _population(snapshot)
    if len(counts) > _COARSE_FROM:
        coarse: Counter[Shape] = Counter()
        for shape, count in counts.items():
            coarse[_rounded(shape)] += count
        counts = coarse
    return _normalised(_most_popular(counts))


def _population(snapshot: Snapshot) -> Counter[Shape]:
    counts: Counter[Shape] = Counter()
    waiting = np.bincount(snapshot.pending.shape, minlength=len(snapshot.shapes)).tolist()
    for shape, count in zip(snapshot.shapes, waiting, strict=True):
        counts[shape] += count
    table = snapshot.allocations
    columns = (table.cpu_milli.tolist(), table.ram_mib.tolist(), table.gpu_milli_per_device.tolist())
    for (cpu, ram, each, mask), count in Counter(zip(*columns, table.gpu_mask.tolist(), strict=True)).items():
        counts[Shape(cpu, ram, each * mask.bit_count())] += count
    return counts


def _most_popular(counts: Counter[Shape]) -> list[Weighted]:
    total = sum(counts.values())
    chosen: list[Weighted] = []
    covered = 0
    for shape, count in sorted(counts.items(), key=lambda item: (-item[1], _sort_key(item[0]))):
        if covered >= _COVERED * total or len(chosen) == _MOST or not count:
            break
        chosen.append((shape, float(count)))
        covered += count
    return chosen


def _sort_key(shape: Shape) -> tuple[object, ...]:
    return (shape.gpu_milli, shape.cpu_milli, shape.ram_mib, shape.gpu_models, shape.node_selector)


def _normalised(weighted: Sequence[Weighted]) -> list[Weighted]:
    total = sum(weight for _, weight in weighted)
    return [(shape, weight / total) for shape, weight in weighted if weight > 0]


def _rounded(shape: Shape) -> Shape:
    gpu = shape.gpu_milli
    coarse_gpu = gpu if gpu % WHOLE_GPU == 0 else min(-(-gpu // 100) * 100, WHOLE_GPU)
    return Shape(
        _power_of_two(shape.cpu_milli),
        _power_of_two(shape.ram_mib),
        coarse_gpu,
        shape.gpu_models,
        shape.node_selector,
    )


def _power_of_two(amount: int) -> int:
    return 1 << (amount - 1).bit_length() if amount > 0 else 0
