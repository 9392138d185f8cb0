"""The order of nodes by cost, against a plain sorted list."""

from __future__ import annotations

import random

import numpy as np

from hypervisor.scheduling.preemption.cost_heap import CostHeap, Entry, lower_bound


def test_the_first_is_always_the_least() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        columns = [(rng.randrange(3), float(rng.randrange(5)), node) for node in range(rng.randrange(30))]
        plain: list[Entry] = sorted((lower_bound(level, lost), node) for level, lost, node in columns)
        levels, lost, nodes = (np.array([row[i] for row in columns]) for i in range(3))
        heap = CostHeap(levels, lost, nodes)
        for _ in range(100):
            assert heap.peek() == (plain[0] if plain else None)
            if not plain:
                break
            first = plain.pop(0)
            if rng.random() < 0.3:
                heap.pop()
                continue
            worse = (lower_bound(first[0][0] + rng.randrange(2), first[0][1] + rng.randrange(3)), first[1])
            heap.replace(worse)
            plain = sorted([*plain, worse])


def test_a_pushed_entry_returns() -> None:
    heap = CostHeap(np.array([1, 2]), np.array([0.0, 0.0]), np.array([7, 8]))
    first = heap.peek()
    assert first is not None
    heap.pop()
    heap.push(first)
    assert heap.peek() == first
