"""The distance of the scheduler's decisions from the proven optimum, on small, nearly full clusters.

    python -m benchmarks.optimality --instances 200 --seed 1

The instances are those of "Priority Matters" (arXiv 2511.08373). Groups of equal pods arrive one after the
other. After each arrival `plan()` is applied until nothing changes. The optimum, computed with CP-SAT, places
the most pods of the highest priority, then of the next priority, and so on; then it moves the fewest running
pods.

The scheduler is measured in three ways. `greedy` is `plan()` alone. `arranged` has the optimizer in each pass
(`optimizer_steps`) and moves no running pod. `ours` also moves running pods at the end, as `consolidate()`
proposes with `--optimizer-steps`. `arranged` and `ours` use the optimizer of `--solver`. No pod is evicted
for a pod of the same or a lower priority.

`default` stands for the default of kube-scheduler: `plan()` with the `spread` score, which is LeastAllocated.
An instance is *hard* if `default` leaves a pod waiting (in the paper: "where the default scheduler fails").
It is *improvable* if the optimum places more than `default`. Instances without a proof in time are in no
share. *Within the rules*, the optimum keeps all running pods, because the scheduler never ends a pod for one
of the same priority.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.support.instances import Instance, Result, make_instance, run_policy
from benchmarks.support.report import print_report
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.scheduling.scoring.registry import policy_names

try:
    from benchmarks.support.optimum import Model, Optimum
except ModuleNotFoundError:
    print(
        "benchmarks.optimality needs OR-tools: pip install ortools, or the extra `optimal` of this package",
        file=sys.stderr,
    )
    sys.exit(2)

_SIDES = ("ours", "arranged", "greedy", "default")
_LIKE_KUBE = Policy(placement="spread")


@dataclass(frozen=True, slots=True)
class Case:
    """One instance with the results of the scheduler and of the solver."""

    instance: Instance
    greedy: Result
    arranged: Result
    ours: Result
    default: Result
    optimum: Optimum
    fewest_moves: int | None
    """Moves from the end of `arranged` to an optimum."""
    within_rules: Optimum
    """The optimum that keeps all pods that run at the end of `arranged`."""
    solver_seconds: float

    @property
    def hard(self) -> bool:
        return sum(self.default.placed(self.instance)) < self.pods

    @property
    def improvable(self) -> bool:
        return self.default.placed(self.instance) < self.optimum.placed

    @property
    def pods(self) -> int:
        return sum(group.replicas for group in self.instance.groups)

    @property
    def is_optimal_within_rules(self) -> bool:
        return self.ours.placed(self.instance) == self.within_rules.placed

    def is_optimal(self, side: str) -> bool:
        result: Result = getattr(self, side)
        return result.placed(self.instance) == self.optimum.placed


def main() -> None:
    """Solve the instances and print the report."""
    arguments = _parse()
    rng = random.Random(arguments.seed)
    cases = []
    for number in range(1, arguments.instances + 1):
        cases.append(solve_case(make_instance(rng), arguments))
        if number % 20 == 0:
            print(f"{number} of {arguments.instances}", file=sys.stderr, flush=True)
    print_report(
        "optimality",
        {
            "instances": len(cases),
            "seed": arguments.seed,
            "policy": arguments.policy,
            "optimizer_steps": arguments.optimizer_steps,
            "solver": arguments.solver,
            "arrivals": "together" if arguments.together else "one group after the other",
            "solver_limit_seconds_per_level": arguments.limit,
            **figures_of(cases),
        },
    )


def solve_case(instance: Instance, arguments: argparse.Namespace) -> Case:
    """Run the scheduler in all ways, then compute the optimum."""
    policy, together = Policy(placement=arguments.policy), arguments.together
    arranging = replace(policy, optimizer_steps=arguments.optimizer_steps, solver=arguments.solver)
    greedy, arranged = run_policy(instance, policy, together), run_policy(instance, arranging, together)
    ours = run_policy(instance, arranging, together, arguments.optimizer_steps)
    default = run_policy(instance, _LIKE_KUBE, together)
    started = time.perf_counter()
    model = Model(instance, arguments.limit, arguments.workers)
    best = max((ours, greedy, default), key=lambda result: result.placed(instance))
    optimum = model.most_placed(best.where)
    fewest = None
    if optimum.proven:
        reached = ours.where if ours.placed(instance) == optimum.placed else optimum.where
        fewest = model.fewest_moves(arranged.where, reached)
    seconds = time.perf_counter() - started
    within = _within_rules(instance, arguments, arranged, ours, optimum)
    return Case(instance, greedy, arranged, ours, default, optimum, fewest, within, seconds)


def _within_rules(
    instance: Instance, arguments: argparse.Namespace, arranged: Result, ours: Result, optimum: Optimum
) -> Optimum:
    if ours.placed(instance) == optimum.placed:
        return optimum
    model = Model(instance, arguments.limit, arguments.workers)
    model.keep(arranged.where)
    return model.most_placed(ours.where)


def figures_of(cases: Sequence[Case]) -> dict[str, Any]:
    """Shares at the proven optimum in percent, deficits, moves and times."""
    proven = [case for case in cases if case.optimum.proven]
    hard = [case for case in proven if case.hard]
    improvable = [case for case in proven if case.improvable]
    reached = [case for case in hard if case.is_optimal("ours") and case.fewest_moves is not None]
    return {
        "proven": len(proven),
        "hard": len(hard),
        "improvable": len(improvable),
        "at_optimum_percent": {
            name: {side: _share(chosen, partial(Case.is_optimal, side=side)) for side in _SIDES}
            for name, chosen in (("all", proven), ("hard", hard), ("improvable", improvable))
        },
        "at_optimum_within_rules_percent": {
            "hard_and_proven": len(bounded := [case for case in hard if case.within_rules.proven]),
            "ours": _share(bounded, lambda case: case.is_optimal_within_rules),
        },
        "better_than_default_percent_of_hard": _share(
            hard, lambda case: case.ours.placed(case.instance) > case.default.placed(case.instance)
        ),
        "hard_deficit_by_level": {side: _deficits(hard, side) for side in _SIDES},
        "hard_evictions_mean": _mean([case.ours.evictions for case in hard]),
        "hard_at_optimum_moves_mean": {
            "ours": _mean([case.ours.moves for case in reached]),
            "fewest": _mean([case.fewest_moves or 0 for case in reached]),
        },
        "hard_seconds": {
            side: {
                "mean": _mean([getattr(case, side).seconds for case in hard]),
                "max": round(max((getattr(case, side).seconds for case in hard), default=0.0), 4),
            }
            for side in _SIDES
        },
        "solver_seconds_mean": _mean([case.solver_seconds for case in cases]),
    }


def _deficits(cases: Sequence[Case], side: str) -> list[float]:
    """Mean number of pods by priority that the optimum places and the side does not, the highest first.

    Below the first priority with a deficit, the side may place more than the optimum.
    """
    columns: list[list[int]] = []
    for case in cases:
        result: Result = getattr(case, side)
        pairs = zip(case.optimum.placed, result.placed(case.instance), strict=True)
        for level, (best, placed) in enumerate(pairs):
            columns += [[]] * (level == len(columns))
            columns[level] = [*columns[level], best - placed]
    return [_mean(column) for column in columns]


def _share(cases: Sequence[Case], holds: Callable[[Case], bool]) -> float | None:
    return round(100 * sum(map(holds, cases)) / len(cases), 2) if cases else None


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4) if values else 0.0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare decisions with the proven optimum.")
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policy", choices=policy_names(), default="fgd")
    parser.add_argument(
        "--optimizer-steps", type=int, default=200_000, help="optimizer steps (default 200,000)"
    )
    parser.add_argument("--solver", choices=solver_names(), default="search")
    parser.add_argument("--together", action="store_true", help="all groups arrive at once")
    parser.add_argument(
        "--limit", type=float, default=10.0, help="seconds for the solver per priority (default 10)"
    )
    parser.add_argument("--workers", type=int, default=2, help="threads of the solver (default 2)")
    parser.add_argument(
        "--small", action="store_true", help="a quick run: 8 instances, 2 seconds per priority"
    )
    arguments = parser.parse_args()
    if arguments.small:
        arguments.instances, arguments.limit = 8, 2.0
    return arguments


if __name__ == "__main__":
    main()
