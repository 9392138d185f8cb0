"""Dependencies: when they are met, and cycles."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypervisor.lifecycle.dependencies import Condition, DependencyStatus, dependency_status, find_cycle
from hypervisor.lifecycle.states import State


@pytest.mark.parametrize(
    ("condition", "parent", "status"),
    [
        (Condition.SUCCEEDED, State.SUCCEEDED, DependencyStatus.MET),
        (Condition.SUCCEEDED, State.RUNNING, DependencyStatus.WAITING),
        (Condition.RUNNING, State.RUNNING, DependencyStatus.MET),
        (Condition.RUNNING, State.SUCCEEDED, DependencyStatus.MET),
        (Condition.RUNNING, State.STARTING, DependencyStatus.WAITING),
        (Condition.SUCCEEDED, State.FAILED, DependencyStatus.BROKEN),
        (Condition.SUCCEEDED, State.CANCELLED, DependencyStatus.BROKEN),
        (Condition.RUNNING, State.STOPPED, DependencyStatus.PAUSED),
    ],
)
def test_a_dependency_stands_as_its_parent_does(
    condition: Condition, parent: State, status: DependencyStatus
) -> None:
    assert dependency_status(condition, parent) is status


def test_a_cycle_is_named_from_its_first_member_round_to_it() -> None:
    cycle = find_cycle({1: [2], 2: [3], 3: [2]}, [1])
    assert cycle in ([2, 3, 2], [3, 2, 3])


def test_a_diamond_is_no_cycle() -> None:
    assert find_cycle({1: [2, 3], 2: [4], 3: [4]}, [1]) is None


def test_a_chain_of_any_length_is_fine() -> None:
    assert find_cycle({n: [n + 1] for n in range(50_000)}, [0]) is None


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=24))
def test_a_cycle_is_found_exactly_where_peeling_off_leaves_leaves_something(
    edges: list[tuple[int, int]],
) -> None:
    parents: dict[int, set[int]] = {}
    for child, parent in edges:
        parents.setdefault(child, set()).add(parent)
    rest = dict(parents)
    while free := [child for child, above in rest.items() if not above & rest.keys()]:
        for child in free:
            del rest[child]
    cycle = find_cycle(parents, parents)
    assert (cycle is not None) == bool(rest)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert all(after in parents[before] for before, after in pairwise(cycle))
