"""Fewer moves for the same placements: items return home where they fit.

First single steps: an item goes home, or two items exchange their bins, or two bins exchange all their items.
Then two to four bins are emptied and filled again, first with items at home there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing, total
from hypervisor.scheduling.repacking.rng import SeededRandom

_STAYS = 0.85


class MoveMinimisation:
    """Brings items home. Every item that is in a bin stays in some bin."""

    def __init__(self, packing: Packing, rng: SeededRandom, steps: StepBudget) -> None:
        self._packing = packing
        self._rng = rng
        self._steps = steps
        self._bins = list(range(len(packing)))

    def search(self) -> None:
        """Search until every item is at home or the steps are spent."""
        self._simple()
        while self._steps.remaining > 0 and self._away(self._bins):
            chosen = self._rng.sample(self._bins, min(2 + self._rng.below(3), len(self._bins)))
            before = self._away(chosen)
            if before and self._try(partial(self._refill, chosen), chosen) and self._away(chosen) < before:
                self._simple()

    def _simple(self) -> None:
        """Repeat single steps until none helps."""
        helped = True
        while helped and self._steps.remaining > 0:
            helped = False
            for index, item in enumerate(self._packing.items):
                if item.home != NO_BIN and self._packing.bin_of[index] not in (NO_BIN, item.home):
                    helped = self._bring_home(index) or helped
            helped = helped or self._exchange_any()

    def _bring_home(self, index: int) -> bool:
        """Move an item home, alone or in exchange for an item whose home is elsewhere."""
        packing = self._packing
        home, away = packing.items[index].home, packing.bin_of[index]
        if self._try(partial(self._move, index, home), (home, away), fewer=1):
            return True
        foreign = sorted(other for other in packing.items_in[home] if packing.items[other].home != home)
        return any(self._try(partial(self._swap, index, other), (home, away), fewer=1) for other in foreign)

    def _exchange_any(self) -> bool:
        """Exchange all items of two bins, if that helps."""
        return any(
            self._try(partial(self._exchange, one, other), (one, other), fewer=1)
            for one in self._bins
            for other in self._bins
            if other < one and self._away((one, other)) > 1
        )

    def _try(self, change: Callable[[], bool], bins: Sequence[int], fewer: int = 0) -> bool:
        """Keep a change to these bins if it succeeds and `fewer` items are away from home afterwards."""
        packing = self._packing
        packing.commit()
        before = self._away(bins)
        if change() and self._away(bins) <= before - fewer:
            return True
        packing.undo(0)
        return False

    def _move(self, index: int, bin_: int) -> bool:
        self._steps.spend()
        self._packing.remove(index)
        return self._put(index, bin_)

    def _swap(self, index: int, other: int) -> bool:
        packing = self._packing
        self._steps.spend(2)
        home, away = packing.bin_of[other], packing.bin_of[index]
        packing.remove(index)
        packing.remove(other)
        return self._put(index, home) and self._put(other, away)

    def _exchange(self, one: int, other: int) -> bool:
        packing = self._packing
        first_items, second_items = sorted(packing.items_in[one]), sorted(packing.items_in[other])
        self._steps.spend(len(first_items) + len(second_items))
        for index in (*first_items, *second_items):
            packing.remove(index)
        return all(self._put(index, other) for index in first_items) and all(
            self._put(index, one) for index in second_items
        )

    def _refill(self, bins: Sequence[int]) -> bool:
        """Empty the bins. Most items at home there go back first; the others go where they fit best."""
        packing, rng = self._packing, self._rng
        inside = sorted(index for bin_ in bins for index in packing.items_in[bin_])
        self._steps.spend(len(inside) * len(bins))
        for index in inside:
            packing.remove(index)
        emptied, noise = set(bins), rng.uniform()
        keyed = []
        for index in inside:
            stays = packing.items[index].home in emptied and rng.uniform() < _STAYS
            size = packing.bulk[index] * (1.0 + noise * (rng.uniform() - 0.5))
            keyed.append((not stays, -size, index))
        keyed.sort()
        return all(self._place(index, bins, not away) for away, _, index in keyed)

    def _place(self, index: int, bins: Sequence[int], stays: bool) -> bool:
        packing, home = self._packing, self._packing.items[index].home
        if stays and packing.fits(index, home):
            packing.put(index, home)
            return True
        fitting = [bin_ for bin_ in bins if packing.fits(index, bin_)]
        if not fitting:
            return False
        packing.put(index, min(fitting, key=lambda bin_: (bin_ != home, total(packing.slack(bin_)))))
        return True

    def _put(self, index: int, bin_: int) -> bool:
        if not self._packing.fits(index, bin_):
            return False
        self._packing.put(index, bin_)
        return True

    def _away(self, bins: Sequence[int]) -> int:
        """How many items in these bins are not at home."""
        packing = self._packing
        return sum(
            packing.items[index].home != NO_BIN and not packing.is_home(index)
            for bin_ in bins
            for index in packing.items_in[bin_]
        )
