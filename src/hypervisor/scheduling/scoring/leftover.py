"""The common part of `bestfit` and `spread`: scores by the remaining capacity of the node."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.working_state import WorkingState
from hypervisor.scheduling.scoring.scorer import INFEASIBLE, ScoreColumn
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Int32, Int64

_SCALE = 1_000_000


class LeftoverScorer:
    """The sum of the remaining parts of each resource, relative to `scale` per node, times `sign`."""

    def __init__(self, capacity: WorkingState, scale: tuple[Int64, Int64, Int64], sign: int) -> None:
        self.capacity = capacity
        self.cpu, self.ram, self.gpu = scale
        self.sign = sign

    def score(self, request: Request, nodes: Int64) -> Int64:
        """See `Scorer`."""
        capacity = self.capacity
        left = (capacity.idle_cpu[nodes] - request.cpu) * _SCALE // self.cpu[nodes]
        left += (capacity.idle_ram[nodes] - request.ram) * _SCALE // self.ram[nodes]
        free_gpu = capacity.idle_gpu[nodes].sum(axis=1)
        left += (free_gpu - request.shape.gpu_milli) * _SCALE // self.gpu[nodes]
        return self.sign * left

    def column(self, requests: Sequence[Request]) -> ScoreColumn:
        """See `Scorer`."""
        return LeftoverColumn(self, requests)

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices by idle milli-GPU: the least first, or the most first if `sign` is negative."""
        free = self.capacity.idle_gpu[node].tolist()
        return sorted(devices, key=lambda index: (self.sign * free[index], index))


class LeftoverColumn:
    """See `ScoreColumn`."""

    def __init__(self, scorer: LeftoverScorer, requests: Sequence[Request]) -> None:
        self._scorer = scorer
        self._cpu = np.array([request.cpu for request in requests], np.int64)
        self._ram = np.array([request.ram for request in requests], np.int64)
        self._gpu = np.array([request.shape.gpu_milli for request in requests], np.int64)
        self._full = self._gpu // WHOLE_GPU
        self._each = self._gpu % WHOLE_GPU

    def at(self, node: int) -> Int32:
        scorer, capacity = self._scorer, self._scorer.capacity
        cpu = capacity.idle_cpu[node] - self._cpu
        ram = capacity.idle_ram[node] - self._ram
        gpu = capacity.idle_gpu[node].sum() - self._gpu
        left = cpu * _SCALE // scorer.cpu[node]
        left += ram * _SCALE // scorer.ram[node]
        left += gpu * _SCALE // scorer.gpu[node]
        left *= scorer.sign
        fits = (
            (cpu >= 0)
            & (ram >= 0)
            & (self._full <= capacity.whole_gpus[node])
            & (self._each <= capacity.largest_fraction[node])
        )
        return np.where(fits, left, INFEASIBLE).astype(np.int32)
