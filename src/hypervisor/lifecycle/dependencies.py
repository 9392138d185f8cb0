"""Dependencies between deployments: their status, and cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from hypervisor.lifecycle.states import State


class Condition(StrEnum):
    SUCCEEDED = "succeeded"
    RUNNING = "running"


class DependencyStatus(StrEnum):
    MET = "met"
    WAITING = "waiting"
    PAUSED = "paused"
    """A user stopped the parent; it can be started again."""
    BROKEN = "broken"
    """The parent ended without reaching the condition."""


def dependency_status(condition: Condition, parent: State) -> DependencyStatus:
    """The status of a dependency on a deployment in state `parent`. SUCCEEDED also satisfies "running"."""
    if parent is State.SUCCEEDED:
        return DependencyStatus.MET
    if condition is Condition.RUNNING and parent is State.RUNNING:
        return DependencyStatus.MET
    if parent in (State.FAILED, State.CANCELLED):
        return DependencyStatus.BROKEN
    return DependencyStatus.PAUSED if parent is State.STOPPED else DependencyStatus.WAITING


def find_cycle(parents: Mapping[int, Iterable[int]], start: Iterable[int]) -> list[int] | None:
    """A cycle reachable from `start`, with the first node repeated at the end, or None.

    `parents` maps a child to its dependencies. Iterative depth-first search: linear in nodes and edges, safe
    for long chains.
    """
    finished: set[int] = set()
    for root in start:
        path: list[int] = []
        on_path: set[int] = set()
        stack: list[tuple[int, bool]] = [(root, False)]
        while stack:
            node, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(node)
                finished.add(node)
                continue
            if node in on_path:
                return [*path[path.index(node) :], node]
            if node in finished:
                continue
            path.append(node)
            on_path.add(node)
            stack.append((node, True))
            stack.extend((parent, False) for parent in parents.get(node, ()))
    return None
