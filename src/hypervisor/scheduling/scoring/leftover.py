"""BestFit and spread: scores by what is left on the node.

BestFit takes the node with the least left, each resource as a share of the largest node's (the baseline of
the FGD paper, USENIX ATC'23). Spread takes the node with the smallest used share of its own capacity after
the placement, as kube-scheduler's LeastAllocated does.
"""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.requests import Request
from hypervisor.scheduling.snapshot import Int64
from hypervisor.scheduling.working import WorkingState

_SCALE = 1_000_000


class BestFitScorer:
    """Least left first; a fraction goes to the fullest device that still has room."""

    def __init__(self, state: WorkingState) -> None:
        self._state = state
        nodes = state.nodes
        self._cpu = max(1, int(nodes.cpu_milli.max(initial=1)))
        self._ram = max(1, int(nodes.ram_mib.max(initial=1)))
        self._gpu = max(1, int(nodes.gpu_count.max(initial=0))) * WHOLE_GPU
        self._free_gpu: Int64 = state.free_gpu.sum(axis=1)

    def losses(self, request: Request, nodes: Int64) -> Int64:
        """What would be left; see `Scorer`."""
        state = self._state
        left = (state.free_cpu[nodes] - request.cpu) * _SCALE // self._cpu
        left += (state.free_ram[nodes] - request.ram) * _SCALE // self._ram
        left += (self._free_gpu[nodes] - request.shape.gpu_milli) * _SCALE // self._gpu
        return left

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The device with the least room first."""
        free = self._state.free_gpu[node].tolist()
        return sorted(devices, key=lambda index: (free[index], index))

    def refresh(self, nodes: Int64) -> None:
        """See `Scorer`."""
        self._free_gpu[nodes] = self._state.free_gpu[nodes].sum(axis=1)


class SpreadScorer:
    """Least used first; a fraction goes to the emptiest device."""

    def __init__(self, state: WorkingState) -> None:
        self._state = state
        nodes = state.nodes
        self._cpu = np.maximum(nodes.cpu_milli, 1)
        self._ram = np.maximum(nodes.ram_mib, 1)
        self._gpu = np.maximum(nodes.gpu_count.astype(np.int64), 1) * WHOLE_GPU
        self._free_gpu: Int64 = state.free_gpu.sum(axis=1)

    def losses(self, request: Request, nodes: Int64) -> Int64:
        """Minus the share of the node that would be left; see `Scorer`."""
        state = self._state
        left = (state.free_cpu[nodes] - request.cpu) * _SCALE // self._cpu[nodes]
        left += (state.free_ram[nodes] - request.ram) * _SCALE // self._ram[nodes]
        left += (self._free_gpu[nodes] - request.shape.gpu_milli) * _SCALE // self._gpu[nodes]
        return -left

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The device with the most room first."""
        free = self._state.free_gpu[node].tolist()
        return sorted(devices, key=lambda index: (-free[index], index))

    def refresh(self, nodes: Int64) -> None:
        """See `Scorer`."""
        self._free_gpu[nodes] = self._state.free_gpu[nodes].sum(axis=1)
