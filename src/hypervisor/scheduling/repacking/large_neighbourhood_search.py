"""Large neighbourhood search: a few nodes are emptied and filled again, also with waiting items.

The order of filling and the choice of the node are random each time (a randomised greedy repair; Shaw, 1998).
A result that places as much as before is often kept, if it leaves the free capacity less scattered. So the
search moves across plateaus.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing
from hypervisor.scheduling.repacking.rng import SeededRandom

_MANY_BINS = 8
_ANYWAY = 0.02
_SHARES = (0.4, 0.7, 1.0)
_WAITING_AT_ONCE = 32


class LargeNeighbourhoodSearch:
    """Improves a packing. `waiting` are items without a home, in queue order."""

    def __init__(
        self, packing: Packing, waiting: Sequence[int], rng: SeededRandom, steps: StepBudget
    ) -> None:
        self._packing = packing
        self._waiting = waiting
        self._rng = rng
        self._steps = steps
        self._bins = list(range(len(packing)))

    def search(self) -> None:
        """Repack until all waiting items are placed or the steps are spent."""
        at = self._packing.bin_of
        while self._steps.remaining > 0 and any(at[index] == NO_BIN for index in self._waiting):
            self._repack(self._choose())

    def _choose(self) -> list[int]:
        """Choose two to four bins."""
        rng, count = self._rng, 2 + self._rng.below(2)
        if len(self._bins) >= _MANY_BINS and rng.below(3) == 0:
            count = 4
        return rng.sample(self._bins, min(count, len(self._bins)))

    def _repack(self, bins: Sequence[int]) -> None:
        packing = self._packing
        packing.commit()
        inside = self._some_of(sorted(index for bin_ in bins for index in packing.items_in[bin_]))
        waiting = [index for index in self._waiting if packing.bin_of[index] == NO_BIN]
        before = self._compactness(bins)
        for index in inside:
            packing.remove(index)
        self._fill(self._order([*inside, *waiting[:_WAITING_AT_ONCE]]), bins)
        gain = self._gain(inside, waiting)
        if gain > 0 or (gain == 0 and (self._compactness(bins) >= before or self._rng.uniform() < _ANYWAY)):
            return
        packing.undo(0)

    def _some_of(self, inside: Sequence[int]) -> list[int]:
        """The items that leave their bins: all of them, or a random part."""
        share = _SHARES[self._rng.below(len(_SHARES))]
        return [index for index in inside if self._rng.uniform() < share]

    def _order(self, pool: list[int]) -> list[int]:
        """Roughly the large items first; sometimes the more important items first."""
        rng, sizes, items = self._rng, self._packing.sizes, self._packing.items
        cpu, ram, gpu = rng.uniform() + 0.25, rng.uniform() + 0.25, rng.uniform() + 0.25
        noise, style = 0.6 * rng.uniform(), rng.below(3)
        keyed = []
        for index in pool:
            size = sizes[index]
            key = -(cpu * size[0] + ram * size[1] + gpu * size[2]) * (
                1.0 + noise * (2.0 * rng.uniform() - 1.0)
            )
            item = items[index]
            rank = -item.priority if style == 0 else item.home == NO_BIN if style == 1 else 0
            keyed.append((rank, key, index))
        keyed.sort()
        return [index for _, _, index in keyed]

    def _fill(self, order: Sequence[int], bins: Sequence[int]) -> None:
        packing, style = self._packing, self._rng.below(3)
        self._steps.spend(len(order) * len(bins))
        for index in order:
            best, least = NO_BIN, 0.0
            for bin_ in bins:
                if packing.fits(index, bin_):
                    badness = _badness(packing, index, bin_, style)
                    if best == NO_BIN or badness < least:
                        best, least = bin_, badness
            if best != NO_BIN:
                packing.put(index, best)

    def _gain(self, inside: Sequence[int], waiting: Sequence[int]) -> int:
        """1 if more is placed than before, 0 if as much, -1 if less; the highest priorities decide.

        Also -1 if an item with a home is not placed.
        """
        items, at = self._packing.items, self._packing.bin_of
        change: dict[int, int] = {}
        for index in inside:
            if at[index] == NO_BIN:
                if items[index].home != NO_BIN:
                    return -1
                change[items[index].priority] = change.get(items[index].priority, 0) - 1
        for index in waiting:
            if at[index] != NO_BIN:
                change[items[index].priority] = change.get(items[index].priority, 0) + 1
        for priority in sorted(change, reverse=True):
            if change[priority]:
                return 1 if change[priority] > 0 else -1
        return 0

    def _compactness(self, bins: Sequence[int]) -> float:
        """The sum of the squares of the free capacity: the larger, the less scattered."""
        squares = 0.0
        for bin_ in bins:
            cpu, ram, gpu = self._packing.slack(bin_)
            squares += cpu * cpu + ram * ram + gpu * gpu
        return squares


def _badness(packing: Packing, index: int, bin_: int, style: int) -> float:
    """How bad this bin is for the item: by the remaining capacity, or by its imbalance."""
    size, slack = packing.sizes[index], packing.slack(bin_)
    cpu, ram, gpu = slack[0] - size[0], slack[1] - size[1], slack[2] - size[2]
    if style == 0:
        return cpu + ram + gpu
    if style == 1:
        return cpu * cpu + ram * ram + gpu * gpu - 1.5 * cpu * ram
    return abs(cpu - ram) + 0.2 * (cpu + ram) + gpu
