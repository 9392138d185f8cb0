"""The proven optimum of a small cluster, computed with CP-SAT.

It places the most pods of the highest priority, then of the next priority, and so on; then it moves the
fewest running pods.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ortools.sat.python import cp_model

from benchmarks.support.instances import Instance

_Where = Counter[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Optimum:
    """`placed` pods by priority, the highest first; `proven` is False after a timeout."""

    placed: tuple[int, ...]
    proven: bool
    where: _Where


class Model:
    """A CP-SAT model.

    Replicas of a group are equal, so a variable is the number of pods of a group on a node.
    """

    def __init__(self, instance: Instance, limit: float, workers: int) -> None:
        self._instance = instance
        self._model = cp_model.CpModel()
        self._solver = cp_model.CpSolver()
        self._solver.parameters.max_time_in_seconds = limit
        self._solver.parameters.num_workers = workers
        self._count = {
            (number, node): self._model.new_int_var(0, group.replicas, f"{number}@{node}")
            for number, group in enumerate(instance.groups)
            for node in range(instance.nodes)
        }
        self._hold_capacities()

    def most_placed(self, hint: _Where) -> Optimum:
        """Maximize the placed pods priority by priority, and fix each maximum. `hint` is a start state."""
        best, proven, where = [], True, hint
        for level in self._instance.levels:
            total = sum(self._placed_of(level))
            requested = sum(group.replicas for group in self._instance.groups if group.priority == level)
            self._model.maximize(total)
            status, where = self._solve(where)
            reached = self._count_level(where, level)
            proven = proven and (status == cp_model.OPTIMAL or reached == requested)
            self._model.add(total == reached)
            best.append(reached)
        return Optimum(tuple(best), proven, where)

    def keep(self, running: _Where) -> None:
        """Require at least as many running pods of each group as in `running`, on any nodes."""
        for number in range(len(self._instance.groups)):
            least = sum(count for (group, _), count in running.items() if group == number)
            self._model.add(sum(self._on_nodes(number)) >= least)

    def fewest_moves(self, now: _Where, hint: _Where) -> int | None:
        """The fewest running pods that must leave their node to reach the optimum.

        Call it after `most_placed`. None when the time limit ended the search.
        """
        leaving = []
        for key, count in now.items():
            moved = self._model.new_int_var(0, count, "")
            self._model.add(moved >= count - self._count[key])
            leaving.append(moved)
        self._model.minimize(sum(leaving))
        status, _ = self._solve(hint)
        return round(self._solver.objective_value) if status == cp_model.OPTIMAL else None

    def _hold_capacities(self) -> None:
        instance = self._instance
        for number, group in enumerate(instance.groups):
            self._model.add(sum(self._on_nodes(number)) <= group.replicas)
        for node in range(instance.nodes):
            loads = [(self._count[number, node], group.shape) for number, group in enumerate(instance.groups)]
            self._model.add(sum(count * shape.cpu_milli for count, shape in loads) <= instance.cpu_milli)
            self._model.add(sum(count * shape.ram_mib for count, shape in loads) <= instance.ram_mib)

    def _on_nodes(self, group: int) -> list[cp_model.IntVar]:
        return [self._count[group, node] for node in range(self._instance.nodes)]

    def _placed_of(self, level: int) -> list[cp_model.IntVar]:
        groups = enumerate(self._instance.groups)
        return [
            count for number, group in groups if group.priority == level for count in self._on_nodes(number)
        ]

    def _solve(self, hint: _Where) -> tuple[cp_model.CpSolverStatus, _Where]:
        """The status of the solver and the best state; the hint when none was found in time."""
        self._model.clear_hints()  # type: ignore[no-untyped-call]
        for key, variable in self._count.items():
            self._model.add_hint(variable, hint[key])
        status = self._solver.solve(self._model)
        if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return status, hint
        return status, Counter({key: self._solver.value(variable) for key, variable in self._count.items()})

    def _count_level(self, where: _Where, level: int) -> int:
        groups = self._instance.groups
        return sum(count for (number, _), count in where.items() if groups[number].priority == level)
