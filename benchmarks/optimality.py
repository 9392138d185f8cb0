"""How far decisions on small, nearly full clusters are from the proven optimum.

    python -m benchmarks.optimality --instances 200 --seed 1

Instances as in "Priority Matters" (arXiv 2511.08373). Groups of equal pods arrive one after the other; after
each arrival `plan()` is applied until nothing changes. The optimum, by CP-SAT, places the most pods of the
highest priority, then of the next, and so on, and among those moves the fewest running pods.

*Ours* is measured three times: `greedy` is `plan()` alone; `arranged` lets each pass arrange what it places
itself (`optimizer_steps`), without moving anybody; `ours` moves running pods in the end, as `consolidate()`
proposes with `--improve` steps. Both search by `--solver`. Nobody is evicted for that whose priority is the
same or higher.

The default of kube-scheduler is stood in for by the same with the `spread` score, which is its
LeastAllocated. An instance is *hard* if that leaves a pod waiting, as the paper counts the cases "where the
default scheduler fails", and *improvable* if the optimum also places more than that. An instance whose
optimum was not proven in time is left out of all shares. *Within the rules* the optimum is the most that can
be placed while all that runs goes on: no rule of the scheduler ends work for its equals.
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

from benchmarks.support.instances import Instance, Result, make_instance, play
from benchmarks.support.report import print_report
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.scheduling.scoring.registry import policy_names

try:
    from benchmarks.support.optimum import Model, Optimum
except ModuleNotFoundError:
    print("benchmarks.optimality needs OR-tools: pip install 'mlops-hypervisor[optimal]'", file=sys.stderr)
    sys.exit(2)

_SIDES = ("ours", "arranged", "greedy", "default")
_LIKE_KUBE = Policy(placement="spread")


@dataclass(frozen=True, slots=True)
class Case:
    """One instance with what both sides and the solver made of it."""

    instance: Instance
    greedy: Result
    arranged: Result
    ours: Result
    default: Result
    optimum: Optimum
    fewest_moves: int | None
    """From where `arranged` ends to any optimum."""
    within_rules: Optimum
    """The most that can be placed with all that runs where `arranged` ends still running in the end."""
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
    """Work through the instances and print the shares."""
    arguments = _parse()
    rng = random.Random(arguments.seed)
    cases = []
    for number in range(1, arguments.instances + 1):
        cases.append(work_out(make_instance(rng), arguments))
        if number % 20 == 0:
            print(f"{number} of {arguments.instances}", file=sys.stderr, flush=True)
    print_report(
        "optimality",
        {
            "instances": len(cases),
            "seed": arguments.seed,
            "policy": arguments.policy,
            "improve_steps": arguments.improve,
            "solver": arguments.solver,
            "arrivals": "together" if arguments.together else "one group after the other",
            "solver_limit_seconds_per_level": arguments.limit,
            **figures_of(cases),
        },
    )


def work_out(instance: Instance, arguments: argparse.Namespace) -> Case:
    """Play both sides, then prove the optimum."""
    policy, together = Policy(placement=arguments.policy), arguments.together
    arranging = replace(policy, optimizer_steps=arguments.improve, solver=arguments.solver)
    greedy, arranged = play(instance, policy, together), play(instance, arranging, together)
    ours = play(instance, arranging, together, arguments.improve)
    default = play(instance, _LIKE_KUBE, together)
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
    """Shares at the proven optimum in per cent, deficits, moves and times."""
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
    """Pods that the optimum places and the side does not, mean by level, the highest first.

    Below the first level with a deficit a side may place more than the optimum does.
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
    parser.add_argument("--improve", type=int, default=200_000, help="steps of a search for a better packing")
    parser.add_argument("--solver", choices=solver_names(), default="search")
    parser.add_argument("--together", action="store_true", help="everything arrives at once")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for the solver per level")
    parser.add_argument("--workers", type=int, default=2, help="threads of the solver")
    parser.add_argument("--small", action="store_true", help="a quick run: 8 instances, 2 seconds a level")
    arguments = parser.parse_args()
    if arguments.small:
        arguments.instances, arguments.limit = 8, 2.0
    return arguments


if __name__ == "__main__":
    main()
