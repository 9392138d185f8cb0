"""The expected-fill scores of many requests on one node; see `ScoreColumn`.

How much the devices of a node can be filled, now and after each amount of GPU, depends on their idle amounts
in any order. Few combinations occur, so the result is computed once per combination.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.scoring.expected_fill_value import IMPOSSIBLE, ExpectedFillValue
from hypervisor.scheduling.scoring.scorer import INFEASIBLE
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64

_MOST_REMEMBERED = 4096


class ExpectedFillColumn:
    """See `ScoreColumn`. An empty request follows the others: its value is the present value of the node."""

    def __init__(self, capacity: WorkingState, value: ExpectedFillValue, requests: Sequence[Request]) -> None:
        self._capacity = capacity
        self._value = value
        self._cpu = np.array([*(request.cpu for request in requests), 0], np.int64)
        self._ram = np.array([*(request.ram for request in requests), 0], np.int64)
        gpu = np.array([*(request.shape.gpu_milli for request in requests), 0], np.int64)
        self._gpu = gpu
        amounts, self._amount = np.unique(gpu, return_inverse=True)
        self._amounts = amounts.tolist()
        self._cache: dict[tuple[int, tuple[int, ...]], Int64] = {}

    def at(self, node: int) -> Int32:
        capacity, value = self._capacity, self._value
        kind = int(value.kind[node])
        free = tuple(sorted(capacity.idle_gpu[node].tolist()))
        cached = self._cache.get((kind, free))
        if cached is None:
            cached = self._fillable_after(kind, free)
            if len(self._cache) < _MOST_REMEMBERED:
                self._cache[kind, free] = cached
        fillable = cached[self._amount]
        cpu, ram = capacity.idle_cpu[node] - self._cpu, capacity.idle_ram[node] - self._ram
        values = value.at(kind, cpu, ram, fillable)
        idle = np.array(sum(free))
        scores = value.encoded(values[-1] - values, self._gpu, idle)
        scores[(cpu < 0) | (ram < 0) | (fillable < 0)] = INFEASIBLE
        return scores[:-1].astype(np.int32)

    def _fillable_after(self, kind: int, free: tuple[int, ...]) -> Int64:
        """How much the devices can be filled after each amount of GPU; negative where that does not fit."""
        value, free_gpu = self._value, np.array(free, np.int64)
        full = np.array(free.count(WHOLE_GPU))
        now = int(value.fillable(kind, free_gpu, full))
        after = []
        for amount in self._amounts:
            if amount % WHOLE_GPU:
                after.append(now + int(value.device_change(kind, free_gpu, full, amount).max()))
            elif amount // WHOLE_GPU <= int(full):
                after.append(now + int(value.full_change(kind, full, amount // WHOLE_GPU)))
            else:
                after.append(IMPOSSIBLE)
        return np.array(after, np.int64)
