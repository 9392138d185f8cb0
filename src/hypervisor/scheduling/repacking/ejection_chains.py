"""Chains of moves: what waits takes the place of few, which find one elsewhere, if need be in the same way.

A depth-first search with a bound (ejection chains; Glover, 1996). It finds the solutions with few moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing, total

_BINS = 16
_CANDIDATES = 12


class EjectionChains:
    """Places waiting items one at a time; what was just placed is not pushed out again."""

    def __init__(self, packing: Packing, steps: StepBudget) -> None:
        self._packing = packing
        self._steps = steps
        self._settled: set[int] = set()

    def place(self, index: int, depth: int, most: int) -> bool:
        """Place a waiting item, up to `most` leaving a bin at each of `depth` levels; else change nothing."""
        self._settled = set()
        return self._place(index, depth, most, NO_BIN)

    def _place(self, index: int, depth: int, most: int, not_in: int) -> bool:
        packing = self._packing
        bins = [bin_ for bin_ in range(len(packing)) if bin_ != not_in]
        if not self._steps.spend(len(bins)):
            return False
        fitting = [bin_ for bin_ in bins if packing.fits(index, bin_)]
        if fitting:
            packing.put(index, min(fitting, key=lambda bin_: (total(packing.slack(bin_)), bin_)))
            return True
        if not depth:
            return False
        self._settled.add(index)
        found = any(self._push_out(index, bin_, depth, most) for bin_ in self._nearest(index, bins))
        self._settled.discard(index)
        return found

    def _push_out(self, index: int, bin_: int, depth: int, most: int) -> bool:
        """Take the bin, whoever leaves it going elsewhere."""
        packing = self._packing
        before = len(packing.journal)
        for leaving in self._sets(index, bin_, most):
            for other in leaving:
                packing.remove(other)
            packing.put(index, bin_)
            if all(self._place(other, depth - 1, most, bin_) for other in reversed(leaving)):
                return True
            packing.undo(before)
        return False

    def _nearest(self, index: int, bins: Sequence[int]) -> list[int]:
        """Bins in which it could be if others left, those with the least missing first."""
        packing = self._packing
        possible = [bin_ for bin_ in bins if packing.admits(index, bin_) and packing.items_in[bin_]]
        return sorted(possible, key=lambda bin_: (packing.missing(index, bin_), bin_))[:_BINS]

    def _sets(self, index: int, bin_: int, most: int) -> Iterator[tuple[int, ...]]:
        """Few items whose going makes room for this one: the fewest first, of those the smallest."""
        packing = self._packing
        inside = sorted(packing.items_in[bin_] - self._settled, key=lambda one: (packing.bulk[one], one))
        for count in range(1, most + 1):
            for leaving in combinations(inside[:_CANDIDATES], count):
                if not self._steps.spend():
                    return
                before = len(packing.journal)
                for other in leaving:
                    packing.remove(other)
                opens = packing.fits(index, bin_)
                packing.undo(before)
                if opens:
                    yield leaving
