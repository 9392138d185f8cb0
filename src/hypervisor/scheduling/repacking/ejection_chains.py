"""Chains of moves: a waiting item ejects a few others from a bin, which are placed elsewhere in the same way.

A bounded depth-first search (ejection chains; Glover, 1996). It finds the solutions with few moves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing, total

_BINS = 16
_CANDIDATES = 12


class EjectionChains:
    """Places waiting items one at a time. An item placed in a chain is not ejected again in it."""

    def __init__(self, packing: Packing, steps: StepBudget) -> None:
        self._packing = packing
        self._steps = steps
        self._placed: set[int] = set()

    def place(self, index: int, depth: int, most: int) -> bool:
        """Place a waiting item, or change nothing; each of `depth` levels ejects up to `most` items."""
        self._placed = set()
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
        self._placed.add(index)
        found = any(self._eject(index, bin_, depth, most) for bin_ in self._nearest(index, bins))
        self._placed.discard(index)
        return found

    def _eject(self, index: int, bin_: int, depth: int, most: int) -> bool:
        """Put the item into the bin, if the ejected items can be placed elsewhere."""
        packing = self._packing
        before = len(packing.journal)
        for ejected in self._ejectable(index, bin_, most):
            for other in ejected:
                packing.remove(other)
            packing.put(index, bin_)
            if all(self._place(other, depth - 1, most, bin_) for other in reversed(ejected)):
                return True
            packing.undo(before)
        return False

    def _nearest(self, index: int, bins: Sequence[int]) -> list[int]:
        """Bins that could take the item without others, the smallest shortfall first."""
        packing = self._packing
        possible = [bin_ for bin_ in bins if packing.admits(index, bin_) and packing.items_in[bin_]]
        return sorted(possible, key=lambda bin_: (packing.missing(index, bin_), bin_))[:_BINS]

    def _ejectable(self, index: int, bin_: int, most: int) -> Iterator[tuple[int, ...]]:
        """Small sets of items whose ejection makes room for this one: the fewest first, then the smallest."""
        packing = self._packing
        inside = sorted(packing.items_in[bin_] - self._placed, key=lambda one: (packing.bulk[one], one))
        for count in range(1, most + 1):
            for ejected in combinations(inside[:_CANDIDATES], count):
                if not self._steps.spend():
                    return
                before = len(packing.journal)
                for other in ejected:
                    packing.remove(other)
                fits = packing.fits(index, bin_)
                packing.undo(before)
                if fits:
                    yield ejected
