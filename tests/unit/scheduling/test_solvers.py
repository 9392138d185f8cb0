"""Every solver: what it may change in a packing, and what the exact solver adds to the search."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.scheduling.repacking.budget import StepBudget
from hypervisor.scheduling.repacking.packing import NO_BIN, Item, Packing
from hypervisor.scheduling.repacking.solvers import load_solvers, solver_names
from tests.support.packings import check_sound, drawn_packing, placed_by_priority, request
from tests.support.properties import checked

pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")

STEPS = 4_000
SEED = (1, 2)
seeds = st.integers(0, 10**9)
each_solver = pytest.mark.parametrize("name", solver_names())


def away(packing: Packing) -> int:
    return sum(item.home != NO_BIN and not packing.is_home(index) for index, item in enumerate(packing.items))


def packing_of(cpu: list[int], *items: tuple[int, int, int]) -> Packing:
    """Bins with this free CPU, and items by their CPU, priority and home."""
    packed_items = [Item(request(size), priority, None, home) for size, priority, home in items]
    return Packing(cpu, [0] * len(cpu), [[] for _ in cpu], packed_items)


def repack(
    name: str, packing: Packing, waiting: Sequence[int], *, fewest: bool = False, steps: int = STEPS
) -> None:
    for _, solver in load_solvers(name):
        chosen = solver.repack_with_few_moves if fewest else solver.repack
        chosen(packing, waiting, StepBudget(steps), SEED)


def run(name: str, seed: int, fewest: bool) -> tuple[Packing, Packing]:
    """A random packing before and after."""
    packing, waiting = drawn_packing(seed)
    before = copy.deepcopy(packing)
    repack(name, packing, waiting, fewest=fewest)
    return before, packing


@each_solver
@given(seeds, st.booleans())
@checked(60)
def test_every_item_fits_in_an_admitted_bin(name: str, seed: int, fewest: bool) -> None:
    before, after = run(name, seed, fewest)
    check_sound(before, after)
    assert placed_by_priority(before) <= placed_by_priority(after)


@each_solver
@given(seeds, st.booleans())
@checked(20)
def test_the_same_packing_gives_the_same_result(name: str, seed: int, fewest: bool) -> None:
    first, second = (run(name, seed, fewest)[1] for _ in range(2))
    assert (first.bin_of, first.devices) == (second.bin_of, second.devices)


def test_the_solver_is_loaded_only_when_chosen() -> None:
    """Loading it takes a second and a hundred megabytes."""
    code = (
        "import sys; import hypervisor.scheduling.plan\n"
        "from hypervisor.scheduling.repacking.solvers import is_installed, load_solvers, solver_names\n"
        "load_solvers('search'); is_installed('exact'); assert 'ortools' not in sys.modules\n"
        "load_solvers('exact'); assert 'ortools' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@given(seeds, st.booleans())
@checked(60)
def test_the_solver_is_never_worse_than_the_search(seed: int, fewest: bool) -> None:
    _, searched = run("search", seed, fewest)
    _, solved = run("exact", seed, fewest)
    assert placed_by_priority(solved) >= placed_by_priority(searched)
    if fewest and placed_by_priority(solved) == placed_by_priority(searched):
        assert away(solved) <= away(searched)


@each_solver
def test_the_earlier_item_in_the_queue_is_placed(name: str) -> None:
    packing = packing_of([1_000], (900, 500, NO_BIN), (900, 500, NO_BIN), (900, 500, NO_BIN))
    repack(name, packing, [2, 0, 1])
    assert packing.bin_of == [NO_BIN, NO_BIN, 0]


@each_solver
def test_an_item_in_a_bin_that_no_longer_admits_it_may_stay(name: str) -> None:
    """The node's labels were changed since it started; there is no other node for it."""
    packing = packing_of([100, 0], (900, 500, 0), (50, 500, NO_BIN))
    stays = Item(request(900), 500, frozenset({1}), 0)
    packing = Packing(packing.cpu, packing.ram, packing.gpu, [stays, *packing.items[1:]])
    repack(name, packing, [1], fewest=True)
    assert packing.bin_of == [0, 0]


def test_the_solver_finds_what_the_search_does_not() -> None:
    """Packings in which the search places fewer items, with the same steps."""
    better = []
    for seed in (108, 445, 488, 573, 776):
        found = [placed_by_priority(run(name, seed, False)[1]) for name in ("search", "exact")]
        better.append(found[0] < found[1])
    assert any(better)


def test_the_solver_finds_the_fewest_moves() -> None:
    """700 fits beside one of 300 after the 400 and the other 300 have moved to where they just fit."""
    homes = [(400, 500, 0), (300, 500, 0), (300, 500, 0), (700, 500, 1), (500, 500, 2)]
    packing = packing_of([0, 300, 500], *homes, (700, 500, NO_BIN))
    repack("exact", packing, [5], fewest=True)
    assert packing.bin_of[5] != NO_BIN
    assert away(packing) == 2


def test_a_large_packing_is_left_to_the_search() -> None:
    """150 kinds on 64 nodes: even building the model would take too long."""
    sizes = range(100, 250)
    found = {}
    for name in solver_names():
        packing = packing_of([200] * 64, *((size, 500, NO_BIN) for size in sizes))
        repack(name, packing, range(len(sizes)))
        found[name] = packing.bin_of
    assert found["search"] == found["exact"]
