"""Every packer: what it may do to a packing, and what the solver adds to the search."""

from __future__ import annotations

import copy
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.policy import PackerName
from hypervisor.scheduling.repacking.packers import Packer, packer_of
from hypervisor.scheduling.repacking.packing import NOWHERE, Packing
from hypervisor.scheduling.repacking.steps import Steps
from tests.support.packings import check_sound, drawn_packing, placed_by_priority
from tests.support.properties import checked

pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")

STEPS = 4_000
SEED = (1, 2)
seeds = st.integers(0, 10**9)
each_packer = pytest.mark.parametrize("name", get_args(PackerName))


def away(packing: Packing) -> int:
    return sum(
        item.home != NOWHERE and not packing.is_home(index) for index, item in enumerate(packing.items)
    )


def run(packer: Packer, seed: int, fewest: bool, steps: int = STEPS) -> tuple[Packing, Packing]:
    """A drawn packing before and after."""
    packing, waiting = drawn_packing(seed)
    before = copy.deepcopy(packing)
    chosen = packer.repack_with_few_moves if fewest else packer.repack
    chosen(packing, waiting, Steps(steps), SEED)
    return before, packing


@each_packer
@given(seeds, st.booleans())
@checked(60)
def test_everything_has_room_where_it_may_be(name: PackerName, seed: int, fewest: bool) -> None:
    before, after = run(packer_of(name), seed, fewest)
    check_sound(before, after)
    assert placed_by_priority(before) <= placed_by_priority(after)


@each_packer
@given(seeds, st.booleans())
@checked(20)
def test_the_same_packing_gives_the_same_result(name: PackerName, seed: int, fewest: bool) -> None:
    first, second = (run(packer_of(name), seed, fewest)[1] for _ in range(2))
    assert (first.at, first.devices) == (second.at, second.devices)


@given(seeds, st.booleans())
@checked(60)
def test_the_solver_is_never_worse_than_the_search(seed: int, fewest: bool) -> None:
    _, searched = run(packer_of("search"), seed, fewest)
    _, solved = run(packer_of("exact"), seed, fewest)
    assert placed_by_priority(solved) >= placed_by_priority(searched)
    if fewest and placed_by_priority(solved) == placed_by_priority(searched):
        assert away(solved) <= away(searched)
