"""Fragmentation Gradient Descent (Weng et al., USENIX ATC'23), with table look-ups instead of loops.

F(node) = sum over typical requests of their weight x the idle milli-GPU of the node that such a request
could not use: all of it where the request does not fit (or needs no GPU), else the devices with too little
room for it. A request goes where F grows least. Since placing u milli-GPU takes u from the idle total on
every node alike, that is where the *usable* idle GPU, total - F, falls least.

Usable idle GPU splits into a sum over devices for requests of one device, and a term of the number of
free devices for requests of several. Both depend on the node's CPU and RAM only through the set of typical
requests that these admit. So: one small table from (node kind, CPU, RAM) to such a set, one from (set, free
milli-GPU of a device) to its usable amount, and one from (set, free devices).

As in the published scheduler, the change of F goes through a sigmoid to whole points from 0 to 100. That
blunting matters: differences of a few hundredths of a device are noise, and chasing them packs worse. Among
nodes with the same points the one with the least idle GPU is taken, so that emptier nodes stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.requests import Eligibility, Request
from hypervisor.scheduling.snapshot import Bool, Int64, Shape
from hypervisor.scheduling.working import WorkingState

_SCALE = 1 << 24
_STRIDE = WHOLE_GPU + 1
_IMPOSSIBLE = np.iinfo(np.int64).min // 4
_POINTS = 100
_STEPS = np.arange(1, _POINTS) / _POINTS
# The fall of F, in scaled milli-GPU, from which on a placement earns 1, 2, .. 99 points: the inverse sigmoid.
_THRESHOLDS = np.round(np.log(_STEPS / (1 - _STEPS)) * WHOLE_GPU * _SCALE).astype(np.int64)
_BEYOND_IDLE = 1 << 17
_FEW = 8


class FgdScorer:
    """The least growth of expected fragmentation first. Weights are scaled to integers, so sums are exact."""

    def __init__(
        self, state: WorkingState, typical: Sequence[tuple[Shape, float]], eligibility: Eligibility
    ) -> None:
        self._state = state
        shapes = [shape for shape, _ in typical]
        weights = np.array([round(weight * _SCALE) for _, weight in typical], np.int64)
        self._cpus = np.unique(np.array([shape.cpu_milli for shape in shapes], np.int64))
        self._rams = np.unique(np.array([shape.ram_mib for shape in shapes], np.int64))
        self._kind, admitted = _node_kinds(shapes, eligibility, len(state.nodes))
        self._kinds, self._wide, self._deep = len(admitted), len(self._cpus) + 1, len(self._rams) + 1
        self._sets, fits = self._admitted_sets(shapes, admitted)
        self._device = _device_table(shapes, weights, fits)
        self._several = _several_table(shapes, weights, fits, state.width)
        self._has_several = bool(self._several.any())
        self._usable = self._usable_now(np.arange(len(state.nodes), dtype=np.int64))
        self._idle: Int64 = state.free_gpu.sum(axis=1)

    def losses(self, request: Request, nodes: Int64) -> Int64:
        """The points missing to 100, and among equals the idle GPU of the node; see `Scorer`."""
        fall = request.shape.gpu_milli * _SCALE - self._lost_usable(request, nodes)
        missing = _POINTS - _THRESHOLDS.searchsorted(fall, "right")
        losses: Int64 = missing * _BEYOND_IDLE + self._idle[nodes]
        return losses

    def rank_devices(self, request: Request, node: int, devices: list[int]) -> list[int]:
        """The devices of the node by the usable GPU that is left, the most first."""
        state = self._state
        rows = np.array([node], np.int64)
        sets = self._set_of(state.free_cpu[rows] - request.cpu, state.free_ram[rows] - request.ram, rows)
        gpu = state.free_gpu[rows]
        flat = (sets * _STRIDE)[:, None] + gpu
        now = self._device.take(flat, mode="clip")
        change = self._changes(request, sets, gpu, flat, now, state.full[rows])[0].tolist()
        return sorted(devices, key=lambda index: (-change[index], index))

    def refresh(self, nodes: Int64) -> None:
        """See `Scorer`."""
        if len(nodes) <= _FEW:
            for node in nodes.tolist():
                self._refresh_one(node)
            return
        self._usable[nodes] = self._usable_now(nodes)
        self._idle[nodes] = self._state.free_gpu[nodes].sum(axis=1)

    def _lost_usable(self, request: Request, nodes: Int64) -> Int64:
        """How much usable idle GPU is lost, in scaled milli-GPU."""
        state = self._state
        sets = self._set_of(state.free_cpu[nodes] - request.cpu, state.free_ram[nodes] - request.ram, nodes)
        gpu = state.free_gpu[nodes]
        flat = (sets * _STRIDE)[:, None] + gpu
        now = self._device.take(flat, mode="clip")
        usable = np.add.reduce(now, axis=1)
        full = state.full[nodes]
        if request.whole:
            usable -= request.devices * self._device[sets * _STRIDE + WHOLE_GPU]
            full = full - request.devices
        elif request.devices:
            usable += self._best_change(request, sets, gpu, flat, now, full)
        if self._has_several:
            usable += self._several[sets, np.maximum(full, 0)]
        lost: Int64 = self._usable[nodes] - usable
        return lost

    def _best_change(
        self, request: Request, sets: Int64, gpu: Int64, flat: Int64, now: Int64, full: Int64
    ) -> Int64:
        best: Int64 = np.maximum.reduce(self._changes(request, sets, gpu, flat, now, full), axis=1)
        return best

    def _changes(
        self, request: Request, sets: Int64, gpu: Int64, flat: Int64, now: Int64, full: Int64
    ) -> Int64:
        """By node and device: how usable GPU changes when a fraction goes there."""
        change = self._device.take(flat - request.each, mode="clip") - now
        if self._has_several:
            opened = self._several[sets, np.maximum(full - 1, 0)] - self._several[sets, full]
            change += np.where(gpu == WHOLE_GPU, opened[:, None], 0)
        change[gpu < request.each] = _IMPOSSIBLE
        return change

    def _refresh_one(self, node: int) -> None:
        """The same as for many nodes; for one, plain look-ups are several times faster."""
        state = self._state
        gpu = state.free_gpu[node]
        by_cpu = int(self._cpus.searchsorted(state.free_cpu[node], "right"))
        by_ram = int(self._rams.searchsorted(state.free_ram[node], "right"))
        step = (int(self._kind[node]) * self._wide + by_cpu) * self._deep + by_ram
        number = int(self._sets[step])
        usable = np.add.reduce(self._device.take(gpu + number * _STRIDE, mode="clip"))
        self._usable[node] = usable + self._several[number, state.full[node]]
        self._idle[node] = np.add.reduce(gpu)

    def _usable_now(self, nodes: Int64) -> Int64:
        state = self._state
        sets = self._set_of(state.free_cpu[nodes], state.free_ram[nodes], nodes)
        flat = (sets * _STRIDE)[:, None] + state.free_gpu[nodes]
        usable: Int64 = self._device.take(flat, mode="clip").sum(axis=1)
        usable += self._several[sets, state.full[nodes]]
        return usable

    def _set_of(self, cpu: Int64, ram: Int64, nodes: Int64) -> Int64:
        """The number of the set of typical requests that these amounts of CPU and RAM admit."""
        by_cpu = self._cpus.searchsorted(cpu, "right")
        by_ram = self._rams.searchsorted(ram, "right")
        if self._kinds > 1:
            by_cpu += self._kind[nodes] * self._wide
        found: Int64 = self._sets.take(by_cpu * self._deep + by_ram)
        return found

    def _admitted_sets(self, shapes: Sequence[Shape], admitted: Bool) -> tuple[Int64, Bool]:
        """Table from (kind, CPU step, RAM step) to a set number, and each set as a mask over the requests."""
        cpu_step = np.searchsorted(self._cpus, [shape.cpu_milli for shape in shapes]) + 1
        ram_step = np.searchsorted(self._rams, [shape.ram_mib for shape in shapes]) + 1
        by_cpu = np.arange(len(self._cpus) + 1)[:, None] >= cpu_step
        by_ram = np.arange(len(self._rams) + 1)[:, None] >= ram_step
        fits = admitted[:, None, None, :] & by_cpu[None, :, None, :] & by_ram[None, None, :, :]
        if not shapes:
            return np.zeros(fits.shape[:3], np.int64).reshape(-1), np.zeros((1, 0), np.bool_)
        flat = fits.reshape(-1, len(shapes))
        unique, number = np.unique(flat, axis=0, return_inverse=True)
        return number.reshape(-1).astype(np.int64), unique


def _node_kinds(shapes: Sequence[Shape], eligibility: Eligibility, count: int) -> tuple[Int64, Bool]:
    """Nodes grouped by which typical requests their model and labels admit."""
    if not shapes:
        return np.zeros(count, np.int64), np.zeros((1, 0), np.bool_)
    admitted = np.stack([eligibility.matching(shape) for shape in shapes], axis=1)
    if admitted.all():
        return np.zeros(count, np.int64), np.ones((1, len(shapes)), np.bool_)
    kinds, kind = np.unique(admitted, axis=0, return_inverse=True)
    return kind.reshape(-1).astype(np.int64), kinds


def _device_table(shapes: Sequence[Shape], weights: Int64, fits: Bool) -> Int64:
    """Flat table (set, free milli-GPU of a device) -> how much of it requests of one device can use."""
    free = np.arange(_STRIDE, dtype=np.int64)
    table = np.zeros((len(fits), _STRIDE), np.int64)
    for column, shape in enumerate(shapes):
        if shape.gpu_devices == 1:
            table += np.outer(fits[:, column] * weights[column], free * (free >= shape.gpu_each))
    return table.reshape(-1)


def _several_table(shapes: Sequence[Shape], weights: Int64, fits: Bool, width: int) -> Int64:
    """Table (set, number of free devices) -> how much of them requests of several devices can use."""
    free = np.arange(width + 1, dtype=np.int64)
    table = np.zeros((len(fits), width + 1), np.int64)
    for column, shape in enumerate(shapes):
        if shape.gpu_devices > 1:
            table += np.outer(
                fits[:, column] * weights[column], free * WHOLE_GPU * (free >= shape.gpu_devices)
            )
    return table
