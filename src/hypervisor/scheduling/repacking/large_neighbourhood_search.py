"""Large neighbourhood search: a few nodes are emptied, in part or whole, and filled again with what waits.

The order of filling and the choice of the node are drawn anew each time (a randomised greedy repair; Shaw,
1998). A result that places as much as before is often taken too, where it leaves what is free less scattered:
so the search moves on over plateaus.
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
    """Improves a packing. `waiting` are items without a home, in the order of the queue."""

    def __init__(
        self, packing: Packing, waiting: Sequence[int], draws: SeededRandom, steps: StepBudget
    ) -> None:
        self._packing = packing
        self._waiting = waiting
        self._draws = draws
        self._steps = steps
        self._bins = list(range(len(packing)))

    def search(self) -> None:
        """Repack until all that waits is placed or the steps are used up."""
        at = self._packing.bin_of
        while self._steps.remaining > 0 and any(at[index] == NO_BIN for index in self._waiting):
            self._repack(self._choose())

    def _choose(self) -> list[int]:
        """Two to four bins."""
        draws, count = self._draws, 2 + self._draws.below(2)
        if len(self._bins) >= _MANY_BINS and draws.below(3) == 0:
            count = 4
        return draws.sample(self._bins, min(count, len(self._bins)))

    def _repack(self, bins: Sequence[int]) -> None:
        packing = self._packing
        packing.commit()
        inside = self._some_of(sorted(index for bin_ in bins for index in packing.items_in[bin_]))
        waiting = [index for index in self._waiting if packing.bin_of[index] == NO_BIN]
        before = self._scatter(bins)
        for index in inside:
            packing.remove(index)
        self._fill(self._order([*inside, *waiting[:_WAITING_AT_ONCE]]), bins)
        gain = self._gain(inside, waiting)
        if gain > 0 or (gain == 0 and (self._scatter(bins) >= before or self._draws.uniform() < _ANYWAY)):
            return
        packing.undo(0)

    def _some_of(self, inside: Sequence[int]) -> list[int]:
        """Those that leave their bins: all of them, or a part drawn by lot."""
        share = _SHARES[self._draws.below(len(_SHARES))]
        return [index for index in inside if self._draws.uniform() < share]

    def _order(self, pool: list[int]) -> list[int]:
        """Large ones first, more or less; sometimes the more important before."""
        draws, sizes, items = self._draws, self._packing.sizes, self._packing.items
        cpu, ram, gpu = draws.uniform() + 0.25, draws.uniform() + 0.25, draws.uniform() + 0.25
        noise, style = 0.6 * draws.uniform(), draws.below(3)
        keyed = []
        for index in pool:
            size = sizes[index]
            key = -(cpu * size[0] + ram * size[1] + gpu * size[2]) * (
                1.0 + noise * (2.0 * draws.uniform() - 1.0)
            )
            item = items[index]
            rank = -item.priority if style == 0 else item.home == NO_BIN if style == 1 else 0
            keyed.append((rank, key, index))
        keyed.sort()
        return [index for _, _, index in keyed]

    def _fill(self, order: Sequence[int], bins: Sequence[int]) -> None:
        packing, style = self._packing, self._draws.below(3)
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
        """Whether more (1), as much (0) or less (-1) is placed than before: the most important decide.

        Less it is also if anything with a home is out.
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

    def _scatter(self, bins: Sequence[int]) -> float:
        """The larger the less scattered: the sum of the squares of what is free."""
        squares = 0.0
        for bin_ in bins:
            cpu, ram, gpu = self._packing.slack(bin_)
            squares += cpu * cpu + ram * ram + gpu * gpu
        return squares


def _badness(packing: Packing, index: int, bin_: int, style: int) -> float:
    """How bad it is to put the item into this bin: the room left, by itself or by how uneven it is."""
    size, slack = packing.sizes[index], packing.slack(bin_)
    cpu, ram, gpu = slack[0] - size[0], slack[1] - size[1], slack[2] - size[2]
    if style == 0:
        return cpu + ram + gpu
    if style == 1:
        return cpu * cpu + ram * ram + gpu * gpu - 1.5 * cpu * ram
    return abs(cpu - ram) + 0.2 * (cpu + ram) + gpu
