"""Small random packings, and the invariants of repacking."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.shortfall import gpu_shortfall
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.repacking.packing import NO_BIN, HeadGuard, Item, Packing
from hypervisor.scheduling.snapshots.requests import Request
from hypervisor.scheduling.snapshots.snapshot import Shape


def request(cpu: int = 0, ram: int = 0, gpu: int = 0) -> Request:
    shape = Shape(cpu, ram, gpu)
    whole = gpu > 0 and gpu % WHOLE_GPU == 0
    return Request(
        0,
        shape,
        cpu,
        ram,
        shape.gpu_device_count,
        shape.gpu_milli_per_device,
        whole,
        np.ones(1, np.bool_),
        True,
    )


def drawn_packing(seed: int) -> tuple[Packing, list[int]]:
    """Two to four bins, many items with a home and some waiting ones, in queue order."""
    rng = random.Random(seed)
    bins = [_FreeCapacity(rng) for _ in range(rng.randint(2, 4))]
    items = [one for _ in range(rng.randint(0, 4 * len(bins))) for one in _at_home(bins, rng)]
    waiting = sorted(
        (_item(bins, rng) for _ in range(rng.randint(1, 6))), key=lambda item: item.priority, reverse=True
    )
    guards = {
        number: HeadGuard(_head_reservation(free, rng))
        for number, free in enumerate(bins)
        if rng.random() < 0.25
    }
    packing = Packing(
        [free.cpu for free in bins],
        [free.ram for free in bins],
        [free.gpu for free in bins],
        [*items, *waiting],
        guards,
    )
    return packing, list(range(len(items), len(items) + len(waiting)))


def placed_by_priority(packing: Packing) -> list[int]:
    """How many items are placed, the highest priority first."""
    placed = Counter(
        item.priority for item, at in zip(packing.items, packing.bin_of, strict=True) if at != NO_BIN
    )
    return [placed[priority] for priority in sorted({item.priority for item in packing.items}, reverse=True)]


def check_sound(before: Packing, after: Packing) -> None:
    """Check capacity, admitted bins, that items with a home stay placed, and that the head loses nothing."""
    cpu, ram, gpu = list(before.cpu), list(before.ram), [list(free) for free in before.gpu]
    for sign, packing in ((1, before), (-1, after)):
        for index, bin_ in enumerate(packing.bin_of):
            if bin_ == NO_BIN:
                continue
            one = packing.items[index].request
            cpu[bin_] += sign * one.cpu
            ram[bin_] += sign * one.ram
            for device in packing.devices[index]:
                gpu[bin_][device] += sign * one.milli_per_device
    assert (cpu, ram, gpu) == (after.cpu, after.ram, after.gpu)
    assert min(*cpu, *ram, *(free for one in gpu for free in one), 0) == 0
    for index, item in enumerate(after.items):
        bin_, devices = after.bin_of[index], after.devices[index]
        assert bin_ != NO_BIN or item.home == NO_BIN
        assert bin_ == NO_BIN or item.bins is None or bin_ in item.bins
        assert len(set(devices)) == (item.request.device_count if bin_ != NO_BIN else 0)
    for guard in after.guards.values():
        assert guard.cpu >= guard.least_cpu
        assert guard.ram >= guard.least_ram
        assert gpu_shortfall(guard.request, guard.gpu) <= guard.shortfall


class _FreeCapacity:
    """The free capacity of a bin that is being filled."""

    def __init__(self, rng: random.Random) -> None:
        self.cpu, self.ram = rng.randint(1000, 3000), rng.randint(1000, 3000)
        self.gpu = [rng.choice([1000, 1000, 600]) for _ in range(rng.choice([0, 0, 2, 3]))]
        self.evictable = [WHOLE_GPU - free for free in self.gpu]
        """The capacity for the head, which no guarded item uses."""

    def take(self, one: Request, guarded: bool) -> tuple[int, ...] | None:
        """Take capacity for the request. Returns its devices, None if it does not fit."""
        need = WHOLE_GPU if one.whole_devices else one.milli_per_device
        devices = [device for device, free in enumerate(self.gpu) if free >= need][: one.device_count]
        if self.cpu < one.cpu or self.ram < one.ram or len(devices) < one.device_count:
            return None
        self.cpu -= one.cpu
        self.ram -= one.ram
        for device in devices:
            self.gpu[device] -= one.milli_per_device
            self.evictable[device] += one.milli_per_device * (not guarded)
        return tuple(devices)


def _item(bins: list[_FreeCapacity], rng: random.Random) -> Item:
    size = rng.randint(1, 12) * 100, rng.randint(1, 12) * 100, rng.choice([0, 0, 0, 300, 500, 1000, 2000])
    somewhere = frozenset(rng.sample(range(len(bins)), 2)) if rng.random() < 0.2 else None
    return Item(request(*size), rng.choice([100, 500]), somewhere, guarded=rng.random() < 0.5)


def _at_home(bins: list[_FreeCapacity], rng: random.Random) -> list[Item]:
    item, home = _item(bins, rng), rng.randrange(len(bins))
    if item.bins is not None and home not in item.bins:
        return []
    devices = bins[home].take(item.request, item.guarded)
    return (
        [] if devices is None else [Item(item.request, item.priority, item.bins, home, devices, item.guarded)]
    )


def _head_reservation(free: _FreeCapacity, rng: random.Random) -> HeadReservation:
    """A random head of the queue that needs the free capacity and a little more."""
    sizes = [size for size in (0, 400, 1000, 2000) if size <= WHOLE_GPU * len(free.gpu)]
    head = request(rng.randint(0, 2000), rng.randint(0, 2000), rng.choice(sizes))
    more = rng.choice([0, 500])
    gpu = [free + rng.choice([0, more]) for free, more in zip(free.gpu, free.evictable, strict=True)]
    return HeadReservation(1, 500, 0, head, free.cpu + more, free.ram + more, gpu)
