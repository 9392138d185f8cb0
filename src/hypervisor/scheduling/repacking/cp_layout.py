"""Positions of items, counted by item class as in a CP model, and their conversion to single items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypervisor.scheduling.repacking.packing import NO_BIN, Packing
from hypervisor.scheduling.snapshots.requests import Request

Spot = tuple[int, tuple[int, ...]]
"""A bin and some of its devices."""


@dataclass(frozen=True, slots=True)
class ItemClass:
    """Items of the same size and priority that may go into the same bins.

    `items` are indexes into a packing: first the items with a home, then the waiting ones in queue order.
    """

    request: Request
    priority: int
    bins: frozenset[int] | None
    guarded: bool
    items: tuple[int, ...]


@dataclass(slots=True)
class CpLayout:
    """How many items of each class are in each bin. A class is an index.

    `counts` is by (class, bin). `shares` counts parts of devices by (class, bin, device). `whole` has the
    devices taken as a whole, as (bin, device, guarded). `stays` are the items that stay at home.
    """

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    shares: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    whole: set[tuple[int, int, bool]] = field(default_factory=set)
    stays: set[int] = field(default_factory=set)


def classes_of(packing: Packing, waiting: Sequence[int]) -> list[ItemClass]:
    """The items by class; `waiting` are the items without a home, in queue order.

    Items whose bin no longer admits them, because the labels of a node have changed, are left out.
    """
    waiting_set = set(waiting)
    homes = (index for index in range(len(packing.items)) if index not in waiting_set)
    alike: dict[tuple[object, ...], list[int]] = {}
    for index in (*homes, *waiting):
        item, bin_ = packing.items[index], packing.bin_of[index]
        if bin_ != NO_BIN and item.bins is not None and bin_ not in item.bins:
            continue
        size = item.request.cpu, item.request.ram, item.request.device_count, item.request.milli_per_device
        alike.setdefault((*size, item.priority, item.bins, item.guarded), []).append(index)
    return [_class_of(packing, indexes) for indexes in alike.values()]


def spots_for(packing: Packing, classes: Sequence[ItemClass]) -> int:
    """The number of spots of all classes: bins, and for parts of devices also devices."""
    devices = sum(map(len, packing.gpu))
    shared = sum(
        bool(item_class.request.device_count) and not item_class.request.whole_devices
        for item_class in classes
    )
    return len(classes) * len(packing) + shared * devices


def at_home(packing: Packing, classes: Sequence[ItemClass], layout: CpLayout) -> set[int]:
    """The items that can stay at home in this layout."""
    stays: set[int] = set()
    counts, shares = layout.counts.copy(), layout.shares.copy()
    for number, item_class in enumerate(classes):
        for index in item_class.items:
            home, devices = packing.items[index].home, packing.items[index].home_devices
            if item_class.request.whole_devices:
                free = all((home, device, item_class.guarded) in layout.whole for device in devices)
            else:
                free = all(shares[number, home, device] > 0 for device in devices)
            if free and counts[number, home] > 0:
                stays.add(index)
                counts[number, home] -= 1
                shares.subtract((number, home, device) for device in devices)
    return stays


def layout_of(packing: Packing, classes: Sequence[ItemClass]) -> CpLayout:
    """The layout of the items in the packing now."""
    found = CpLayout()
    for number, item_class in enumerate(classes):
        for index in item_class.items:
            bin_, devices = packing.bin_of[index], packing.devices[index]
            if bin_ == NO_BIN:
                continue
            found.counts[number, bin_] += 1
            if item_class.request.whole_devices:
                found.whole.update((bin_, device, item_class.guarded) for device in devices)
            elif devices:
                found.shares[number, bin_, devices[0]] += 1
            if packing.is_home(index):
                found.stays.add(index)
    return found


def spots_of(packing: Packing, classes: Sequence[ItemClass], layout: CpLayout) -> Iterator[tuple[int, Spot]]:
    """A spot for each placed item: items that stay at home first, then items with a home, then the queue."""
    free = set(layout.whole)
    for index in sorted(layout.stays):
        item = packing.items[index]
        free -= {(item.home, device, item.guarded) for device in item.home_devices}
        yield index, (item.home, item.home_devices)
    for number, item_class in enumerate(classes):
        moving = [index for index in item_class.items if index not in layout.stays]
        yield from zip(moving, _spots_left(packing, item_class, number, layout, free), strict=False)


def _spots_left(
    packing: Packing, item_class: ItemClass, number: int, layout: CpLayout, free: set[tuple[int, int, bool]]
) -> Iterator[Spot]:
    """The spots of this class, except for items that stay; removes their devices from `free`."""
    stays = [packing.items[index] for index in item_class.items if index in layout.stays]
    if item_class.request.device_count and not item_class.request.whole_devices:
        shares = Counter({key[1:]: count for key, count in layout.shares.items() if key[0] == number})
        shares.subtract((item.home, item.home_devices[0]) for item in stays)
        yield from ((bin_, (device,)) for bin_, device in sorted(shares.elements()))
        return
    counts = Counter({key[1]: count for key, count in layout.counts.items() if key[0] == number})
    counts.subtract(item.home for item in stays)
    for bin_ in sorted(counts.elements()):
        usable = sorted(one for one in free if one[0] == bin_ and one[2] == item_class.guarded)
        taken = usable[: item_class.request.device_count]
        free -= set(taken)
        yield bin_, tuple(device for _, device, _ in taken)


def _class_of(packing: Packing, indexes: Sequence[int]) -> ItemClass:
    one = packing.items[indexes[0]]
    return ItemClass(one.request, one.priority, one.bins, one.guarded, tuple(indexes))
