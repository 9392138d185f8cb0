"""The local search: ejection chains, large neighbourhood search, and move minimisation."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.ejection_chains import EjectionChains
from hypervisor.scheduling.repacking.large_neighbourhood_search import LargeNeighbourhoodSearch
from hypervisor.scheduling.repacking.move_minimisation import MoveMinimisation
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing
from hypervisor.scheduling.repacking.rng import SeededRandom

_CHAINS = ((0, 0), (1, 1), (1, 2), (2, 1), (2, 2))
"""(depth, most items at once) of the chains, from simple to complex."""
_CHAIN_SHARE = 0.3
_MOVES_SHARE = 0.3


def repack(packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]) -> None:
    """Place as many waiting items as possible; `waiting` is in queue order."""
    part = steps.split(_CHAIN_SHARE)
    _chain(packing, waiting, part)
    steps.return_unused(part)
    LargeNeighbourhoodSearch(packing, waiting, SeededRandom(seed), steps).search()
    prefer_earlier(packing, waiting)


def repack_with_few_moves(
    packing: Packing, waiting: Sequence[int], steps: StepBudget, seed: Sequence[int]
) -> None:
    """Place as many waiting items as possible, and use a part of the steps to reduce the moves."""
    part = steps.split(1.0 - _MOVES_SHARE)
    repack(packing, waiting, part, seed)
    steps.return_unused(part)
    MoveMinimisation(packing, SeededRandom(seed), steps).search()


def prefer_earlier(packing: Packing, waiting: Sequence[int]) -> None:
    """Replace a later item in the queue by an earlier one, where that fits."""
    for position, index in enumerate(waiting):
        for later in waiting[position + 1 :]:
            if packing.bin_of[index] != NO_BIN:
                break
            if packing.bin_of[later] != NO_BIN:
                _take_over(packing, index, later)


def _take_over(packing: Packing, index: int, later: int) -> None:
    packing.commit()
    bin_ = packing.bin_of[later]
    packing.remove(later)
    if packing.fits(index, bin_):
        packing.put(index, bin_)
    else:
        packing.undo(0)


def _chain(packing: Packing, waiting: Sequence[int], steps: StepBudget) -> None:
    chains = EjectionChains(packing, steps)
    for depth, most in _CHAINS:
        for index in waiting:
            if packing.bin_of[index] == NO_BIN:
                chains.place(index, depth, most)
                packing.commit()
