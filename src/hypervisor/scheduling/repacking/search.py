"""The search as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.repacking.chains import Chains
from hypervisor.scheduling.repacking.draws import Draws
from hypervisor.scheduling.repacking.fewer_moves import FewerMoves
from hypervisor.scheduling.repacking.neighbourhoods import Neighbourhoods
from hypervisor.scheduling.repacking.packing import NOWHERE, Packing
from hypervisor.scheduling.repacking.steps import Steps

_CHAINS = ((0, 0), (1, 1), (1, 2), (2, 1), (2, 2))
"""(depth, most at once) of the chains that are tried, from simple to involved."""
_CHAIN_SHARE = 0.3
_MOVES_SHARE = 0.3


def repack(packing: Packing, waiting: Sequence[int], steps: Steps, seed: Sequence[int]) -> None:
    """Place as much as possible of what waits; `waiting` is in the order of the queue."""
    part = steps.part(_CHAIN_SHARE)
    _chain(packing, waiting, part)
    steps.take_back(part)
    Neighbourhoods(packing, waiting, Draws(seed), steps).search()


def repack_with_few_moves(
    packing: Packing, waiting: Sequence[int], steps: Steps, seed: Sequence[int]
) -> None:
    """The same, with part of the steps kept for getting there with as few moves as can be found."""
    part = steps.part(1.0 - _MOVES_SHARE)
    repack(packing, waiting, part, seed)
    steps.take_back(part)
    FewerMoves(packing, Draws(seed), steps).search()


def _chain(packing: Packing, waiting: Sequence[int], steps: Steps) -> None:
    chains = Chains(packing, steps)
    for depth, most in _CHAINS:
        for index in waiting:
            if packing.at[index] == NOWHERE:
                chains.place(index, depth, most)
                packing.settle()
