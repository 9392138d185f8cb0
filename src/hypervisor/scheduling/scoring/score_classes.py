"""Few score classes, however many shapes there are.

Each class has a row of scores over all nodes, so 100,000 distinct shapes must share classes. Up to
`MOST_CLASSES` shapes, each is its own class. More shapes are rounded down to a geometric grid and share
scores. Whether a shape fits is always decided by its exact amounts.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.snapshots.requests import Constraint, constraint_of
from hypervisor.scheduling.snapshots.snapshot import Shape

MOST_CLASSES = 256
_STEPS = (8, 4, 2, 1)
_Key = tuple[int, int, int, Constraint]


def score_classes(shapes: Sequence[Shape]) -> tuple[list[int], list[Shape]]:
    """The class of each shape, and a representative of each class, never larger than a member."""
    if len(shapes) <= MOST_CLASSES:
        return list(range(len(shapes))), list(shapes)
    for steps in _STEPS:
        keys = [_key(shape, steps) for shape in shapes]
        numbers: dict[_Key, int] = {}
        members = [numbers.setdefault(key, len(numbers)) for key in keys]
        if len(numbers) <= MOST_CLASSES:
            break
    return members, [_representative(key) for key in numbers]


def _key(shape: Shape, steps: int) -> _Key:
    gpu = shape.gpu_milli
    if gpu < WHOLE_GPU:
        grain = 400 // steps
        gpu = max(gpu // grain * grain, 1) if gpu else 0
    return (_floor(shape.cpu_milli, steps), _floor(shape.ram_mib, steps), gpu, constraint_of(shape))


def _representative(key: _Key) -> Shape:
    cpu, ram, gpu, (models, selector) = key
    return Shape(cpu, ram, gpu, models, selector)


def _floor(amount: int, steps: int) -> int:
    """The largest value not above `amount` on a grid with `steps` points between powers of two."""
    if amount < steps:
        return amount if steps > 1 else 0
    grain = max(1, (1 << (amount.bit_length() - 1)) // steps)
    return amount // grain * grain
