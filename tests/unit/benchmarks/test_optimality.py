"""The proven optimum on small instances with known solutions, and the distance of a policy from it."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections import Counter

import pytest
from benchmarks.support.instances import Group, Instance, make_instance, run_policy

from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape

pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")

from benchmarks.optimality import figures_of, solve_case
from benchmarks.support.optimum import Model


def group(cpu: int, priority: int = 1, replicas: int = 1, ram: int = 100) -> Group:
    return Group(Shape(cpu, ram), priority, replicas)


def instance(nodes: int, *groups: Group, cpu: int = 1000, ram: int = 10_000) -> Instance:
    return Instance(nodes, cpu, ram, groups)


def model(of: Instance) -> Model:
    return Model(of, limit=10.0, workers=1)


class TestOptimum:
    def test_packs_what_first_fit_cannot(self) -> None:
        """400 + 600 and 300 + 700 fill both nodes; 400 + 300 together would leave 600 or 700 out."""
        of = instance(2, group(400), group(300), group(600), group(700))
        found = model(of).most_placed(Counter())
        assert found.proven
        assert found.placed == (4,)

    def test_a_higher_priority_outweighs_any_number_of_lower_ones(self) -> None:
        of = instance(1, group(250, priority=1, replicas=4), group(1000, priority=2))
        assert model(of).most_placed(Counter()).placed == (1, 0)

    def test_a_lower_priority_gets_the_most_of_the_remaining_capacity(self) -> None:
        of = instance(1, group(600, priority=2), group(300, priority=1), group(200, priority=1, replicas=2))
        assert model(of).most_placed(Counter()).placed == (1, 2)

    def test_ram_binds_too(self) -> None:
        of = instance(2, group(10, ram=600, replicas=3), ram=1000)
        assert model(of).most_placed(Counter()).placed == (2,)

    def test_counts_the_fewest_moves(self) -> None:
        """400 and 300 share a node; for 600 and 700 one of them has to go to the other node."""
        of = instance(2, group(400), group(300), group(600), group(700))
        solver = model(of)
        best = solver.most_placed(Counter())
        assert solver.fewest_moves(Counter({(0, 0): 1, (1, 0): 1, (2, 1): 1}), best.where) == 1
        assert solver.fewest_moves(Counter({(0, 0): 1, (2, 0): 1}), best.where) == 0

    def test_running_pods_can_be_kept(self) -> None:
        """One of 900 runs on the only node, where two of 400 would fit in its place."""
        of = instance(1, group(900), group(400, replicas=2))
        solver = model(of)
        solver.keep(Counter({(0, 0): 1}))
        assert solver.most_placed(Counter({(0, 0): 1})).placed == (1,)
        assert model(of).most_placed(Counter()).placed == (2,)


class TestPlay:
    def test_a_higher_priority_evicts_until_nothing_changes(self) -> None:
        of = instance(1, group(500, priority=1, replicas=2), group(600, priority=2))
        result = run_policy(of, Policy())
        assert result.placed(of) == (1, 0)
        assert result.evictions == 2

    def test_simultaneous_arrivals_are_decided_by_priority_without_evictions(self) -> None:
        of = instance(1, group(500, priority=1, replicas=2), group(600, priority=2))
        result = run_policy(of, Policy(), together=True)
        assert result.placed(of) == (1, 0)
        assert result.evictions == 0


def test_instances_are_as_in_the_paper() -> None:
    rng = random.Random(3)
    for _ in range(50):
        of = make_instance(rng)
        pods = sum(each.replicas for each in of.groups)
        asked = sum(each.shape.cpu_milli * each.replicas for each in of.groups)
        assert of.nodes in (4, 8, 16)
        assert pods // of.nodes in (4, 8)
        assert all(100 <= each.shape.cpu_milli <= 1000 and 1 <= each.replicas <= 4 for each in of.groups)
        assert 0.89 <= asked / (of.nodes * of.cpu_milli) <= 1.05


def test_shares_compare_both_sides_with_the_optimum() -> None:
    """Spread puts 400 and 300 on two nodes, which leaves 1000 out although all three would fit."""
    of = instance(2, group(400), group(300), group(1000))
    settings = argparse.Namespace(
        policy="bestfit", together=False, limit=10.0, workers=1, optimizer_steps=1_000, solver="search"
    )
    case = solve_case(of, settings)
    assert case.hard
    assert case.improvable
    figures = figures_of([case])
    assert figures["at_optimum_percent"]["hard"] == {
        "ours": 100.0,
        "arranged": 100.0,
        "greedy": 100.0,
        "default": 0.0,
    }
    assert figures["at_optimum_within_rules_percent"] == {"hard_and_proven": 1, "ours": 100.0}
    assert figures["hard_deficit_by_level"]["ours"] == [0.0]
    assert figures["hard_deficit_by_level"]["default"] == [1.0]


def test_a_running_pod_moves_where_that_places_another_one() -> None:
    """400 and 300 run on one node, 600 on the other: with 300 there, 600 more fit."""
    of = instance(2, group(400), group(300), group(600), group(600))
    assert run_policy(of, Policy(placement="bestfit")).placed(of) == (3,)
    moved = run_policy(of, Policy(placement="bestfit"), consolidation=1_000)
    assert (moved.placed(of), moved.moves) == ((4,), 1)


def test_without_ortools_the_error_line_has_the_install_command() -> None:
    code = "import sys; sys.modules['ortools'] = None; import benchmarks.optimality"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "benchmarks.optimality needs OR-tools: pip install ortools, or the extra `optimal` of this package"
    ]
