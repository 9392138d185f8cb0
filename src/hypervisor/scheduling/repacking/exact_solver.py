"""The best packing there is, by a solver: for small packings, and never worse than what is there already.

The priorities come one after the other, the highest first: each keeps what the ones before it have, and at
last the fewest move.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.cp_layout import (
    CpLayout,
    ItemClass,
    classes_of,
    layout_of,
    spots_for,
    spots_of,
)
from hypervisor.scheduling.repacking.cp_model import CpModel
from hypervisor.scheduling.repacking.local_search import prefer_earlier
from hypervisor.scheduling.repacking.packing import NO_BIN, Packing

_STEPS_A_UNIT = 400_000
"""So many steps of the search take about as long as a unit of the solver's deterministic time."""
_MOST_SPOTS = 8_192
"""For all kinds of items: with more of them, even writing down the program takes too long."""
_MOVES_SHARE = 0.3


def repack(packing: Packing, waiting: Sequence[int], steps: StepBudget, _seed: Sequence[int]) -> None:
    """Place the most of what waits, after the search has placed what it could."""
    if any(packing.bin_of[index] == NO_BIN for index in waiting):
        _improve(packing, waiting, steps, fewest=False)


def repack_with_few_moves(
    packing: Packing, waiting: Sequence[int], steps: StepBudget, _seed: Sequence[int]
) -> None:
    """The same, then with the fewest moves."""
    _improve(packing, waiting, steps, fewest=True)


def _improve(packing: Packing, waiting: Sequence[int], steps: StepBudget, *, fewest: bool) -> None:
    """Take over what the solver finds, if it is better."""
    kinds = classes_of(packing, waiting)
    if spots_for(packing, kinds) > _MOST_SPOTS:
        return
    packing.commit()
    before = _worth(packing, fewest)
    hint = layout_of(packing, kinds)
    for index in (index for kind in kinds for index in kind.items):
        if packing.bin_of[index] != NO_BIN:
            packing.remove(index)
    program = CpModel(packing, kinds)
    steps.spend(len(program))
    found = _solved(program, kinds, hint, max(0, steps.remaining) / _STEPS_A_UNIT, fewest=fewest)
    steps.spend(round(program.spent * _STEPS_A_UNIT))
    if found is None or not _take_over(packing, kinds, found) or _worth(packing, fewest) <= before:
        packing.undo(0)
    packing.commit()
    prefer_earlier(packing, waiting)


def _solved(
    program: CpModel, kinds: Sequence[ItemClass], hint: CpLayout, units: float, *, fewest: bool
) -> CpLayout | None:
    """What the solver finds in so many units of its time; None if that is nothing."""
    limit = units * (1.0 - _MOVES_SHARE) if fewest else units
    best = hint
    for priority in sorted({kind.priority for kind in kinds}, reverse=True):
        placed, all_ = _placed(best, kinds, priority)
        if placed < all_ and limit > program.spent:
            best = program.place_most(priority, best, limit - program.spent) or best
            placed, _ = _placed(best, kinds, priority)
        program.keep(priority, placed)
    if fewest and units > program.spent:
        best = program.move_fewest(best, units - program.spent) or best
    return None if best is hint else best


def _placed(layout: CpLayout, kinds: Sequence[ItemClass], priority: int) -> tuple[int, int]:
    """How many of a priority have a place, and how many there are."""
    mine = {number for number, kind in enumerate(kinds) if kind.priority == priority}
    placed = sum(count for (number, _), count in layout.counts.items() if number in mine)
    return placed, sum(len(kinds[number].items) for number in mine)


def _take_over(packing: Packing, kinds: Sequence[ItemClass], layout: CpLayout) -> bool:
    """Put everything where the layout has it; the packing itself says whether that is allowed."""
    spots = spots_of(packing, kinds, layout)
    done = all(packing.put_on(index, bin_, devices) for index, (bin_, devices) in spots)
    return done and all(
        bin_ != NO_BIN or item.home == NO_BIN
        for item, bin_ in zip(packing.items, packing.bin_of, strict=True)
    )


def _worth(packing: Packing, fewest: bool) -> list[int]:
    """How many have a place, by priority, the highest first; last, if that counts, how many are at home."""
    placed = dict.fromkeys(sorted({item.priority for item in packing.items}, reverse=True), 0)
    for item, bin_ in zip(packing.items, packing.bin_of, strict=True):
        placed[item.priority] += bin_ != NO_BIN
    home = sum(map(packing.is_home, range(len(packing.items)))) if fewest else 0
    return [*placed.values(), home]
