"""Items in bins: deployments on nodes as plain numbers, fast to remove and to put back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hypervisor.kernel.resources import WHOLE_GPU
from hypervisor.scheduling.capacity.shortfall import gpu_shortfall
from hypervisor.scheduling.passes.head_reservation import HeadReservation
from hypervisor.scheduling.snapshots.requests import Request

NO_BIN = -1


@dataclass(frozen=True, slots=True)
class Item:
    """A replica that may be anywhere in `bins` (None: in every bin).

    `home` is its initial bin, NO_BIN if it waits. An item with a home always stays placed. `guarded` items
    may not take what a guard protects.
    """

    request: Request
    priority: int
    bins: frozenset[int] | None
    home: int = NO_BIN
    home_devices: tuple[int, ...] = ()
    guarded: bool = False


class HeadGuard:
    """The capacity that guarded items must leave to the head of the queue, in a bin that it reserves.

    Guarded items may move while the head's shortfall does not exceed its initial shortfall.
    """

    def __init__(self, head: HeadReservation) -> None:
        self.request = head.request
        self.cpu, self.ram, self.gpu = head.cpu, head.ram, list(head.gpu)
        """The capacity for the head, less the present use by guarded items."""
        self.least_cpu = min(head.cpu, head.request.cpu)
        self.least_ram = min(head.ram, head.request.ram)
        self.shortfall = gpu_shortfall(head.request, self.gpu)
        """The maximum GPU shortfall of the head."""

    def allows(self, request: Request, devices: Sequence[int]) -> bool:
        """Whether the head's shortfall stays within the initial one if the request takes these devices."""
        if request.cpu and self.cpu - request.cpu < self.least_cpu:
            return False
        if request.ram and self.ram - request.ram < self.least_ram:
            return False
        after = list(self.gpu)
        for device in devices:
            after[device] -= request.milli_per_device
        return not devices or gpu_shortfall(self.request, after) <= self.shortfall

    def count(self, request: Request, devices: Sequence[int], sign: int) -> None:
        """Count a guarded item that enters (-1) or leaves (1) the bin."""
        self.cpu += sign * request.cpu
        self.ram += sign * request.ram
        for device in devices:
            self.gpu[device] += sign * request.milli_per_device


def total(parts: tuple[float, float, float]) -> float:
    """Their sum from left to right. `sum` rounds differently between versions of Python."""
    return parts[0] + parts[1] + parts[2]


class Packing:
    """The bin of every item. `cpu`, `ram` and `gpu` (by device) are the free capacity of each bin."""

    def __init__(
        self,
        cpu: Sequence[int],
        ram: Sequence[int],
        gpu: Sequence[Sequence[int]],
        items: Sequence[Item],
        guards: Mapping[int, HeadGuard] | None = None,
    ) -> None:
        self.cpu, self.ram = list(cpu), list(ram)
        self.gpu = [list(free) for free in gpu]
        self.items = items
        self.guards = guards or {}
        self.bin_of = [item.home for item in items]
        self.devices = [item.home_devices for item in items]
        self.journal: list[tuple[int, int, tuple[int, ...]]] = []
        """The position of an item before each change since the last `commit`, for `undo`."""
        self.items_in: list[set[int]] = [set() for _ in self.cpu]
        for index, item in enumerate(items):
            if item.home != NO_BIN:
                self.items_in[item.home].add(index)
        self._capacities = [self._capacity_of(bin_) for bin_ in range(len(self.cpu))]
        self._scale = [
            max(1.0, sum(capacity[kind] for capacity in self._capacities) / len(self)) for kind in range(3)
        ]
        self.sizes = [self._share(item.request) for item in items]
        self.bulk = [total(size) for size in self.sizes]
        """The size of each item: its parts of an average bin, added up."""

    def __len__(self) -> int:
        return len(self.cpu)

    def fits(self, index: int, bin_: int) -> bool:
        """Whether the item can be put into the bin now."""
        item = self.items[index]
        request = item.request
        if self.cpu[bin_] < request.cpu or self.ram[bin_] < request.ram:
            return False
        if item.bins is not None and bin_ not in item.bins:
            return False
        if request.device_count:
            gpu = self.gpu[bin_]
            if request.whole_devices and gpu.count(WHOLE_GPU) < request.device_count:
                return False
            if max(gpu, default=0) < request.milli_per_device:
                return False
        if item.guarded and bin_ in self.guards:
            return self.guards[bin_].allows(request, self._pick(item, bin_))
        return True

    def put(self, index: int, bin_: int) -> None:
        """Put the item into a bin where it fits, on its home devices if they are free."""
        self.journal.append((index, NO_BIN, ()))
        self._take(index, bin_, self._pick(self.items[index], bin_))

    def put_on(self, index: int, bin_: int, devices: tuple[int, ...]) -> bool:
        """Put an unplaced item on exactly these devices of a bin, if it is admitted there and fits."""
        item = self.items[index]
        if item.bins is not None and bin_ not in item.bins:
            return False
        if len(devices) != item.request.device_count or not self._has_capacity(item.request, bin_, devices):
            return False
        if item.guarded and bin_ in self.guards and not self.guards[bin_].allows(item.request, devices):
            return False
        self.journal.append((index, NO_BIN, ()))
        self._take(index, bin_, devices)
        return True

    def remove(self, index: int) -> None:
        """Remove the item from its bin."""
        self.journal.append((index, self.bin_of[index], self.devices[index]))
        self._lift(index)

    def undo(self, position: int) -> None:
        """Restore the positions from when the journal had this length."""
        journal = self.journal
        while len(journal) > position:
            index, bin_, devices = journal.pop()
            if self.bin_of[index] != NO_BIN:
                self._lift(index)
            if bin_ != NO_BIN:
                self._take(index, bin_, devices)

    def relocate(self, index: int, bin_: int, devices: tuple[int, ...]) -> bool:
        """Move an item to exactly these devices of a bin, if it fits there."""
        before = len(self.journal)
        self.remove(index)
        if self._has_capacity(self.items[index].request, bin_, devices):
            self._take(index, bin_, devices)
            return True
        self.undo(before)
        return False

    def at_home(self) -> Packing:
        """A packing of the same items, all of them at home and the waiting ones out; without guards."""
        cpu, ram, gpu = list(self.cpu), list(self.ram), [list(free) for free in self.gpu]
        for sign, positions in ((1, zip(self.bin_of, self.devices, strict=True)), (-1, self._homes())):
            for item, (bin_, devices) in zip(self.items, positions, strict=True):
                if bin_ != NO_BIN:
                    cpu[bin_] += sign * item.request.cpu
                    ram[bin_] += sign * item.request.ram
                    for device in devices:
                        gpu[bin_][device] += sign * item.request.milli_per_device
        return Packing(cpu, ram, gpu, self.items)

    def _homes(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        return ((item.home, item.home_devices) for item in self.items)

    def commit(self) -> None:
        """Forget the changes so far; they cannot be undone any more."""
        self.journal.clear()

    def admits(self, index: int, bin_: int) -> bool:
        """Whether the empty bin could take the item; GPUs only by their sum."""
        item, (cpu, ram, gpu) = self.items[index], self._capacities[bin_]
        request = item.request
        if cpu < request.cpu or ram < request.ram or gpu < request.device_count * request.milli_per_device:
            return False
        return item.bins is None or bin_ in item.bins

    def may_fit(self, index: int) -> bool:
        """Whether any moves could make room for the item. False is certain, True is not."""
        item, request = self.items[index], self.items[index].request
        bins = range(len(self)) if item.bins is None else sorted(item.bins)
        if sum(max(0, self.cpu[bin_]) for bin_ in bins) < request.cpu:
            return False
        if sum(max(0, self.ram[bin_]) for bin_ in bins) < request.ram:
            return False
        gpu = sum(sum(self.gpu[bin_]) for bin_ in bins)
        return gpu >= request.device_count * request.milli_per_device and any(
            self.admits(index, bin_) for bin_ in bins
        )

    def missing(self, index: int, bin_: int) -> float:
        """How far the item is from fitting into the bin: the sum of the shortfalls, in average bins."""
        request = self.items[index].request
        gpu = request.device_count * request.milli_per_device - sum(self.gpu[bin_])
        scale = self._scale
        short = max(0, request.cpu - self.cpu[bin_]) / scale[0] + max(0, gpu) / scale[2]
        return short + max(0, request.ram - self.ram[bin_]) / scale[1]

    def slack(self, bin_: int) -> tuple[float, float, float]:
        """The free capacity of the bin, in average bins."""
        cpu, ram, gpu = self._scale
        return self.cpu[bin_] / cpu, self.ram[bin_] / ram, sum(self.gpu[bin_]) / gpu

    def is_home(self, index: int) -> bool:
        """Whether the item is in its initial bin, on the same devices."""
        item = self.items[index]
        return self.bin_of[index] == item.home and self.devices[index] == item.home_devices

    def _has_capacity(self, request: Request, bin_: int, devices: tuple[int, ...]) -> bool:
        need = WHOLE_GPU if request.whole_devices else request.milli_per_device
        free = self.cpu[bin_] >= request.cpu and self.ram[bin_] >= request.ram
        return free and all(self.gpu[bin_][device] >= need for device in devices)

    def _lift(self, index: int) -> None:
        item, bin_, devices = self.items[index], self.bin_of[index], self.devices[index]
        request, gpu = item.request, self.gpu[bin_]
        self.cpu[bin_] += request.cpu
        self.ram[bin_] += request.ram
        for device in devices:
            gpu[device] += request.milli_per_device
        if item.guarded and bin_ in self.guards:
            self.guards[bin_].count(request, devices, 1)
        self.bin_of[index], self.devices[index] = NO_BIN, ()
        self.items_in[bin_].discard(index)

    def _take(self, index: int, bin_: int, devices: tuple[int, ...]) -> None:
        item = self.items[index]
        request, gpu = item.request, self.gpu[bin_]
        self.cpu[bin_] -= request.cpu
        self.ram[bin_] -= request.ram
        for device in devices:
            gpu[device] -= request.milli_per_device
        if item.guarded and bin_ in self.guards:
            self.guards[bin_].count(request, devices, -1)
        self.bin_of[index], self.devices[index] = bin_, devices
        self.items_in[bin_].add(index)

    def _capacity_of(self, bin_: int) -> tuple[int, int, int]:
        """The capacity of the bin without items."""
        inside = [self.items[index].request for index in self.items_in[bin_]]
        return (
            self.cpu[bin_] + sum(request.cpu for request in inside),
            self.ram[bin_] + sum(request.ram for request in inside),
            sum(self.gpu[bin_]) + sum(request.device_count * request.milli_per_device for request in inside),
        )

    def _share(self, request: Request) -> tuple[float, float, float]:
        cpu, ram, gpu = self._scale
        return request.cpu / cpu, request.ram / ram, request.device_count * request.milli_per_device / gpu

    def _pick(self, item: Item, bin_: int) -> tuple[int, ...]:
        """The devices for an item: whole devices by their number, a part of one on the fullest device."""
        request, gpu = item.request, self.gpu[bin_]
        if not request.device_count:
            return ()
        need = WHOLE_GPU if request.whole_devices else request.milli_per_device
        if bin_ == item.home and all(gpu[device] >= need for device in item.home_devices):
            return item.home_devices
        if request.whole_devices:
            free = [device for device, left in enumerate(gpu) if left == WHOLE_GPU]
            return tuple(free[: request.device_count])
        return (
            min((left, device) for device, left in enumerate(gpu) if left >= request.milli_per_device)[1],
        )
