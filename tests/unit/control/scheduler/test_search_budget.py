"""The time of a pass's search as steps: cautious at first, then by what was measured."""

from __future__ import annotations

import itertools

import pytest

from hypervisor.control.scheduler.search_budget import FEWEST_STEPS, FIRST_PACE, SearchBudget
from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.policy import Policy
from tests.support.clock import FakeClock
from tests.support.scheduling import NOW, Node, Pending, World, cpu

CLUSTER = 7
POLICY = Policy(optimizer_steps=1_000_000)


def searched(
    pacing: SearchBudget, clock: FakeClock, steps: int, seconds: float, stage: str = "search"
) -> None:
    watch = pacing.stopwatch(CLUSTER)
    watch.stage_started()
    clock.advance(seconds)
    watch.stage_ended(stage, steps)


def steps_of(pacing: SearchBudget, policy: Policy = POLICY) -> int:
    return pacing.granted(CLUSTER, policy).optimizer_steps


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_cluster_of_which_nothing_is_known_gets_few_steps(clock: FakeClock) -> None:
    assert steps_of(SearchBudget(clock, 1.0)) == round(1 / FIRST_PACE)
    assert steps_of(SearchBudget(clock, 0.5)) == round(0.5 / FIRST_PACE)


def test_the_clusters_own_limit_stays_the_most(clock: FakeClock) -> None:
    small = Policy(optimizer_steps=20_000)
    assert SearchBudget(clock, 1.0).granted(CLUSTER, small) == small
    off = Policy(optimizer_steps=0)
    assert SearchBudget(clock, 1.0).granted(CLUSTER, off) == off


def test_without_a_limit_in_time_all_steps_are_granted(clock: FakeClock) -> None:
    pacing = SearchBudget(clock, 0.0)
    searched(pacing, clock, 10_000, 60.0)
    assert pacing.granted(CLUSTER, POLICY) == POLICY


def test_slower_counts_at_once_and_faster_by_and_by(clock: FakeClock) -> None:
    pacing = SearchBudget(clock, 1.0)
    searched(pacing, clock, 10_000, 2.0)
    assert steps_of(pacing) == 5_000
    searched(pacing, clock, 10_000, 0.1)
    assert 5_000 < steps_of(pacing) < 100_000
    for _ in range(30):
        searched(pacing, clock, 10_000, 0.1)
    assert steps_of(pacing) == pytest.approx(100_000, rel=0.01)


def test_however_slow_it_was_there_are_enough_steps_to_measure_again(clock: FakeClock) -> None:
    pacing = SearchBudget(clock, 1.0)
    searched(pacing, clock, 2_000, 3_600.0)
    assert steps_of(pacing) == FEWEST_STEPS


def test_a_handful_of_steps_says_nothing(clock: FakeClock) -> None:
    pacing = SearchBudget(clock, 1.0)
    searched(pacing, clock, 10, 5.0)
    assert steps_of(pacing) == round(1 / FIRST_PACE)


def test_clusters_are_measured_apart(clock: FakeClock) -> None:
    pacing = SearchBudget(clock, 1.0)
    searched(pacing, clock, 10_000, 10.0)
    assert pacing.granted(CLUSTER + 1, POLICY).optimizer_steps == round(1 / FIRST_PACE)


def test_search_and_solver_together_keep_within_the_time(clock: FakeClock) -> None:
    """A step of the solver takes nine times as long as one of the search: both make 100,000 in a second."""
    pacing, exact = SearchBudget(clock, 1.0), Policy(optimizer_steps=1_000_000, solver="exact")
    assert steps_of(pacing, exact) == round(0.5 / FIRST_PACE)
    for _ in range(30):
        searched(pacing, clock, 100_000, 0.1)
        searched(pacing, clock, 10_000, 0.09, "exact")
    assert steps_of(pacing, exact) == pytest.approx(100_000, rel=0.01)


def test_the_search_of_a_pass_is_measured_from_its_begin_to_its_end(clock: FakeClock) -> None:
    """Five deployments on two nodes fit only once they are arranged; where all are placed nobody searches."""
    pacing = SearchBudget(clock, 1.0)
    told: list[int] = []

    class Told:
        def stage_started(self) -> None:
            told.append(0)

        def stage_ended(self, _stage: str, steps: int) -> None:
            told.append(steps)

    nodes = (Node(1, cpu=10_000, ram=65_536, gpus=0), Node(2, cpu=10_000, ram=65_536, gpus=0))
    sizes = zip(itertools.count(1), (5, 4, 3, 2, 6), strict=False)
    pending = tuple(Pending(number, cpu(cores), 500, created_at=NOW) for number, cores in sizes)
    policy = pacing.granted(CLUSTER, POLICY)
    decided = plan(World(nodes, pending=pending).snapshot(), policy, Told())
    assert len(decided.placements) == 5
    begun, steps = told
    assert 0 == begun < steps <= policy.optimizer_steps
    plan(World(nodes, pending=pending[:2]).snapshot(), policy, Told())
    assert len(told) == 2
