"""Reasons are built on access: in any order, with the same result."""

from __future__ import annotations

import random

from hypervisor.scheduling.plan import plan
from tests.support.scheduling import Pending, World, gpu, gpu_node


def crowded(shapes: int) -> World:
    rng = random.Random(5)
    sizes = [0.001 * (1 + number % 999) for number in range(shapes)]
    pending = tuple(
        Pending(number, gpu(size, cpu=100_000 + number), 500) for number, size in enumerate(sizes)
    )
    nodes = tuple(gpu_node(number, gpus=1 + number % 4) for number in range(5))
    return World(nodes, (), tuple(rng.sample(pending, len(pending))))


def test_reasons_do_not_depend_on_the_order_of_access() -> None:
    for shapes in (3, 400):
        snapshot = crowded(shapes).snapshot()
        forwards, backwards = plan(snapshot).unplaced, plan(snapshot).unplaced
        reasons = [item.reason for item in forwards]
        assert len(reasons) == shapes
        assert [backwards[at].reason for at in reversed(range(shapes))] == reasons[::-1]


def test_a_slice_has_the_items_of_the_whole() -> None:
    waiting = plan(crowded(20).snapshot()).unplaced
    assert list(waiting[5:8]) == list(waiting)[5:8]
    assert waiting[-1] == list(waiting)[-1]
