"""The step budget of a pass: cautious at first, then by measurement."""

from __future__ import annotations

import itertools

import pytest

from hypervisor.control.scheduler.search_budget import DEFAULT_STEP_SECONDS, MIN_STEPS, SearchBudget
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from tests.support.clock import FakeClock
from tests.support.scheduling import NOW, Node, Pending, World, cpu

CLUSTER = 7
POLICY = Policy(optimizer_steps=1_000_000)


def measure(
    budget: SearchBudget, clock: FakeClock, steps: int, seconds: float, stage: str = "search"
) -> None:
    timer = budget.timer(CLUSTER)
    timer.stage_started()
    clock.advance(seconds)
    timer.stage_ended(stage, steps)


def steps_of(budget: SearchBudget, policy: Policy = POLICY) -> int:
    return budget.limit_steps(CLUSTER, policy).optimizer_steps


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_cluster_without_measurements_gets_few_steps(clock: FakeClock) -> None:
    assert steps_of(SearchBudget(clock, 1.0)) == round(1 / DEFAULT_STEP_SECONDS)
    assert steps_of(SearchBudget(clock, 0.5)) == round(0.5 / DEFAULT_STEP_SECONDS)


def test_the_limit_of_the_cluster_is_not_exceeded(clock: FakeClock) -> None:
    small = Policy(optimizer_steps=20_000)
    assert SearchBudget(clock, 1.0).limit_steps(CLUSTER, small) == small
    off = Policy(optimizer_steps=0)
    assert SearchBudget(clock, 1.0).limit_steps(CLUSTER, off) == off


def test_without_a_limit_in_time_all_steps_are_granted(clock: FakeClock) -> None:
    budget = SearchBudget(clock, 0.0)
    measure(budget, clock, 10_000, 60.0)
    assert budget.limit_steps(CLUSTER, POLICY) == POLICY


def test_a_slower_measurement_counts_at_once_and_a_faster_one_gradually(clock: FakeClock) -> None:
    budget = SearchBudget(clock, 1.0)
    measure(budget, clock, 10_000, 2.0)
    assert steps_of(budget) == 5_000
    measure(budget, clock, 10_000, 0.1)
    assert 5_000 < steps_of(budget) < 100_000
    for _ in range(30):
        measure(budget, clock, 10_000, 0.1)
    assert steps_of(budget) == pytest.approx(100_000, rel=0.01)


def test_there_are_always_enough_steps_for_a_measurement(clock: FakeClock) -> None:
    budget = SearchBudget(clock, 1.0)
    measure(budget, clock, 2_000, 3_600.0)
    assert steps_of(budget) == MIN_STEPS


def test_a_measurement_of_few_steps_is_ignored(clock: FakeClock) -> None:
    budget = SearchBudget(clock, 1.0)
    measure(budget, clock, 10, 5.0)
    assert steps_of(budget) == round(1 / DEFAULT_STEP_SECONDS)


def test_clusters_are_measured_separately(clock: FakeClock) -> None:
    budget = SearchBudget(clock, 1.0)
    measure(budget, clock, 10_000, 10.0)
    assert budget.limit_steps(CLUSTER + 1, POLICY).optimizer_steps == round(1 / DEFAULT_STEP_SECONDS)


def test_search_and_solver_together_keep_within_the_time(clock: FakeClock) -> None:
    """A step of the solver takes nine times as long as one of the search: both make 100,000 in a second."""
    budget, exact = SearchBudget(clock, 1.0), Policy(optimizer_steps=1_000_000, solver="exact")
    assert steps_of(budget, exact) == round(0.5 / DEFAULT_STEP_SECONDS)
    for _ in range(30):
        measure(budget, clock, 100_000, 0.1)
        measure(budget, clock, 10_000, 0.09, "exact")
    assert steps_of(budget, exact) == pytest.approx(100_000, rel=0.01)


def test_the_search_of_a_pass_is_measured_from_start_to_end(clock: FakeClock) -> None:
    """Five deployments fit on two nodes only after a search; a pass that places all does not search."""
    budget = SearchBudget(clock, 1.0)
    stages: list[int] = []

    class Recorder:
        def stage_started(self) -> None:
            stages.append(0)

        def stage_ended(self, _stage: str, steps: int) -> None:
            stages.append(steps)

    nodes = (Node(1, cpu=10_000, ram=65_536, gpus=0), Node(2, cpu=10_000, ram=65_536, gpus=0))
    sizes = zip(itertools.count(1), (5, 4, 3, 2, 6), strict=False)
    pending = tuple(Pending(number, cpu(cores), 500, created_at=NOW) for number, cores in sizes)
    policy = budget.limit_steps(CLUSTER, POLICY)
    result = plan(World(nodes, pending=pending).snapshot(), policy, Recorder())
    assert len(result.placements) == 5
    started, steps = stages
    assert 0 == started < steps <= policy.optimizer_steps
    plan(World(nodes, pending=pending[:2]).snapshot(), policy, Recorder())
    assert len(stages) == 2
