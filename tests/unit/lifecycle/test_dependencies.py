"""Dependencies: their status, and cycles."""

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
def test_the_status_of_a_dependency_follows_from_its_parent(
    condition: Condition, parent: State, status: DependencyStatus
) -> None:
    assert dependency_status(condition, parent) is status


def test_a_cycle_starts_and_ends_with_the_same_deployment() -> None:
    cycle = find_cycle({1: [2], 2: [3], 3: [2]}, [1])
    assert cycle in ([2, 3, 2], [3, 2, 3])


def test_a_diamond_is_no_cycle() -> None:
    assert find_cycle({1: [2, 3], 2: [4], 3: [4]}, [1]) is None


def test_a_long_chain_is_no_cycle() -> None:
    assert find_cycle({n: [n + 1] for n in range(50_000)}, [0]) is None


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=24))
def test_a_cycle_is_found_exactly_if_removing_leaves_does_not_empty_the_graph(
    edges: list[tuple[int, int]],
) -> None:
    parents: dict[int, set[int]] = {}
    for child, parent in edges:
        parents.setdefault(child, set()).add(parent)
    remaining = dict(parents)
    while leaves := [child for child, above in remaining.items() if not above & remaining.keys()]:
        for child in leaves:
            del remaining[child]
    cycle = find_cycle(parents, parents)
    assert (cycle is not None) == bool(remaining)
    if cycle is not None:
        assert cycle[0] == cycle[-1]
        assert all(after in parents[before] for before, after in pairwise(cycle))
