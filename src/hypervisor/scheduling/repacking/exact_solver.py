"""The best packing, found by CP-SAT: for small packings, and never worse than the given packing.

The priorities are solved one after the other, the highest first. Each keeps the results of the priorities
before it. At the end the number of moves is minimised.
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
"""This many steps of the search take about as long as one unit of the solver's deterministic time."""
_MOST_SPOTS = 8_192
"""For all item classes together. With more spots, even building the model takes too long."""
_MOVES_SHARE = 0.3


def repack(packing: Packing, waiting: Sequence[int], steps: StepBudget, _seed: Sequence[int]) -> None:
    """Place the most waiting items, starting from the result of the search."""
    if any(packing.bin_of[index] == NO_BIN for index in waiting):
        _optimize(packing, waiting, steps, fewest=False)


def repack_with_few_moves(
    packing: Packing, waiting: Sequence[int], steps: StepBudget, _seed: Sequence[int]
) -> None:
    """Place the most waiting items, then minimise the moves."""
    _optimize(packing, waiting, steps, fewest=True)


def _optimize(packing: Packing, waiting: Sequence[int], steps: StepBudget, *, fewest: bool) -> None:
    """Apply the solver's result, if it is better."""
    classes = classes_of(packing, waiting)
    if spots_for(packing, classes) > _MOST_SPOTS:
        return
    packing.commit()
    before = _value(packing, fewest)
    hint = layout_of(packing, classes)
    for index in (index for item_class in classes for index in item_class.items):
        if packing.bin_of[index] != NO_BIN:
            packing.remove(index)
    model = CpModel(packing, classes)
    steps.spend(len(model))
    found = _solve(model, classes, hint, max(0, steps.remaining) / _STEPS_A_UNIT, fewest=fewest)
    steps.spend(round(model.spent * _STEPS_A_UNIT))
    if found is None or not _apply(packing, classes, found) or _value(packing, fewest) <= before:
        packing.undo(0)
    packing.commit()
    prefer_earlier(packing, waiting)


def _solve(
    model: CpModel, classes: Sequence[ItemClass], hint: CpLayout, units: float, *, fewest: bool
) -> CpLayout | None:
    """The solver's result within `units` of its time; None if it finds nothing."""
    limit = units * (1.0 - _MOVES_SHARE) if fewest else units
    best = hint
    for priority in sorted({item_class.priority for item_class in classes}, reverse=True):
        placed, all_ = _placed(best, classes, priority)
        if placed < all_ and limit > model.spent:
            best = model.place_maximum(priority, best, limit - model.spent) or best
            placed, _ = _placed(best, classes, priority)
        model.keep(priority, placed)
    if fewest and units > model.spent:
        best = model.move_fewest(best, units - model.spent) or best
    return None if best is hint else best


def _placed(layout: CpLayout, classes: Sequence[ItemClass], priority: int) -> tuple[int, int]:
    """How many items of a priority are placed, and how many exist."""
    numbers = {number for number, item_class in enumerate(classes) if item_class.priority == priority}
    placed = sum(count for (number, _), count in layout.counts.items() if number in numbers)
    return placed, sum(len(classes[number].items) for number in numbers)


def _apply(packing: Packing, classes: Sequence[ItemClass], layout: CpLayout) -> bool:
    """Put every item where the layout has it. False if the packing does not allow this."""
    spots = spots_of(packing, classes, layout)
    done = all(packing.put_on(index, bin_, devices) for index, (bin_, devices) in spots)
    return done and all(
        bin_ != NO_BIN or item.home == NO_BIN
        for item, bin_ in zip(packing.items, packing.bin_of, strict=True)
    )


def _value(packing: Packing, fewest: bool) -> list[int]:
    """By priority, the highest first, the number of placed items; then, with `fewest`, of items at home."""
    placed = dict.fromkeys(sorted({item.priority for item in packing.items}, reverse=True), 0)
    for item, bin_ in zip(packing.items, packing.bin_of, strict=True):
        placed[item.priority] += bin_ != NO_BIN
    home = sum(map(packing.is_home, range(len(packing.items)))) if fewest else 0
    return [*placed.values(), home]
