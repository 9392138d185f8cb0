"""Where items are, told by kinds: what an integer program speaks of; and back to single items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypervisor.scheduling.repacking.packing import NO_BIN, Packing
from hypervisor.scheduling.snapshots.requests import Request

Spot = tuple[int, tuple[int, ...]]
"""A bin and devices of it."""


@dataclass(frozen=True, slots=True)
class ItemClass:
    """Items of the same size and priority with the same choice of bins.

    `items` are indexes into a packing: first those that have a home, then those that wait, as they queue.
    """

    request: Request
    priority: int
    bins: frozenset[int] | None
    guarded: bool
    items: tuple[int, ...]


@dataclass(slots=True)
class CpLayout:
    """How many of each kind are where, kinds by their number: `counts` by (kind, bin), `shares` of devices by
    (kind, bin, device), `whole` devices that are taken by (bin, device, guarded); and who stays at home.
    """

    counts: Counter[tuple[int, int]] = field(default_factory=Counter)
    shares: Counter[tuple[int, int, int]] = field(default_factory=Counter)
    whole: set[tuple[int, int, bool]] = field(default_factory=set)
    stays: set[int] = field(default_factory=set)


def classes_of(packing: Packing, waiting: Sequence[int]) -> list[ItemClass]:
    """The items by kind; `waiting` are those without a home in the order of the queue.

    Left out is what is where it may not be put any more, as the labels of a node were changed.
    """
    waits = set(waiting)
    homes = (index for index in range(len(packing.items)) if index not in waits)
    alike: dict[tuple[object, ...], list[int]] = {}
    for index in (*homes, *waiting):
        item, bin_ = packing.items[index], packing.bin_of[index]
        if bin_ != NO_BIN and item.bins is not None and bin_ not in item.bins:
            continue
        size = item.request.cpu, item.request.ram, item.request.device_count, item.request.milli_per_device
        alike.setdefault((*size, item.priority, item.bins, item.guarded), []).append(index)
    return [_kind(packing, indexes) for indexes in alike.values()]


def spots_for(packing: Packing, kinds: Sequence[ItemClass]) -> int:
    """In how many bins, and for parts of devices on how many devices, each kind could be; all added up."""
    devices = sum(map(len, packing.gpu))
    shared = sum(bool(kind.request.device_count) and not kind.request.whole_devices for kind in kinds)
    return len(kinds) * len(packing) + shared * devices


def at_home(packing: Packing, kinds: Sequence[ItemClass], layout: CpLayout) -> set[int]:
    """As many as can be where they were to begin with, if so many of each kind are where the layout says."""
    stays: set[int] = set()
    counts, shares = layout.counts.copy(), layout.shares.copy()
    for number, kind in enumerate(kinds):
        for index in kind.items:
            home, devices = packing.items[index].home, packing.items[index].home_devices
            if kind.request.whole_devices:
                free = all((home, device, kind.guarded) in layout.whole for device in devices)
            else:
                free = all(shares[number, home, device] > 0 for device in devices)
            if free and counts[number, home] > 0:
                stays.add(index)
                counts[number, home] -= 1
                shares.subtract((number, home, device) for device in devices)
    return stays


def layout_of(packing: Packing, kinds: Sequence[ItemClass]) -> CpLayout:
    """Where the items of the packing are now."""
    found = CpLayout()
    for number, kind in enumerate(kinds):
        for index in kind.items:
            bin_, devices = packing.bin_of[index], packing.devices[index]
            if bin_ == NO_BIN:
                continue
            found.counts[number, bin_] += 1
            if kind.request.whole_devices:
                found.whole.update((bin_, device, kind.guarded) for device in devices)
            elif devices:
                found.shares[number, bin_, devices[0]] += 1
            if packing.is_home(index):
                found.stays.add(index)
    return found


def spots_of(packing: Packing, kinds: Sequence[ItemClass], layout: CpLayout) -> Iterator[tuple[int, Spot]]:
    """A spot for each item that the layout places: who stays first, then who has a home, then the queue."""
    free = set(layout.whole)
    for index in sorted(layout.stays):
        item = packing.items[index]
        free -= {(item.home, device, item.guarded) for device in item.home_devices}
        yield index, (item.home, item.home_devices)
    for number, kind in enumerate(kinds):
        moving = [index for index in kind.items if index not in layout.stays]
        yield from zip(moving, _spots_left(packing, kind, number, layout, free), strict=False)


def _spots_left(
    packing: Packing, kind: ItemClass, number: int, layout: CpLayout, free: set[tuple[int, int, bool]]
) -> Iterator[Spot]:
    """Spots of this kind that nobody has who stays; `free` are the whole devices left, and shrink."""
    stays = [packing.items[index] for index in kind.items if index in layout.stays]
    if kind.request.device_count and not kind.request.whole_devices:
        shares = Counter({key[1:]: count for key, count in layout.shares.items() if key[0] == number})
        shares.subtract((item.home, item.home_devices[0]) for item in stays)
        yield from ((bin_, (device,)) for bin_, device in sorted(shares.elements()))
        return
    counts = Counter({key[1]: count for key, count in layout.counts.items() if key[0] == number})
    counts.subtract(item.home for item in stays)
    for bin_ in sorted(counts.elements()):
        usable = sorted(one for one in free if one[0] == bin_ and one[2] == kind.guarded)
        taken = usable[: kind.request.device_count]
        free -= set(taken)
        yield bin_, tuple(device for _, device, _ in taken)


def _kind(packing: Packing, indexes: Sequence[int]) -> ItemClass:
    one = packing.items[indexes[0]]
    return ItemClass(one.request, one.priority, one.bins, one.guarded, tuple(indexes))
