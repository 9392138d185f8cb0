"""Resolution of `depends_on` into edges between deployments, with a check for cycles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from hypervisor.deployments.access import repository
from hypervisor.deployments.schemas.requests import DependencyRequest
from hypervisor.errors import Conflict, HypervisorError, Invalid, NotFound
from hypervisor.lifecycle.dependencies import Condition, find_cycle
from hypervisor.lifecycle.states import State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


class HasDependencies(Protocol):
    """The part of a request that dependencies need."""

    @property
    def name(self) -> str: ...

    def dependencies(self) -> list[DependencyRequest]: ...


@dataclass(frozen=True, slots=True)
class DependencyRef:
    """A dependency on an `existing` deployment, or on the deployment at `batch_index` of the same batch."""

    condition: Condition
    existing: Deployment | None = None
    batch_index: int | None = None


@dataclass(frozen=True, slots=True)
class Referenced:
    """Deployments of the organization that requests refer to."""

    by_id: Mapping[int, Deployment]
    ids_by_name: Mapping[str, int]

    def find(self, reference: int | str) -> Deployment | None:
        if isinstance(reference, str):
            by_name = self.ids_by_name.get(reference)
            return self.by_id.get(by_name if by_name is not None else _as_id(reference))
        return self.by_id.get(reference)


class BatchItemError(Exception):
    """A refusal of one deployment of a batch, by index."""

    def __init__(self, index: int, error: HypervisorError) -> None:
        super().__init__(str(error))
        self.index = index
        self.error = error


def resolve_edges(requests: Sequence[HasDependencies], found: Referenced) -> list[list[DependencyRef]]:
    """The edges of each request. A name refers to a deployment of the batch, else to the newest deployment.

    Raises BatchItemError around NotFound (no such deployment in the organization), Invalid (several
    deployments of the batch have the name), Conflict (the dependency has failed or is being deleted, or there
    is a cycle).
    """
    indexes_by_name: dict[str, list[int]] = defaultdict(list)
    for index, request in enumerate(requests):
        indexes_by_name[request.name].append(index)
    edges = []
    for index, request in enumerate(requests):
        try:
            edges.append(_edges_of(index, request, indexes_by_name, found))
        except HypervisorError as error:
            raise BatchItemError(index, error) from None
    _check_cycles(requests, edges)
    return edges


async def lock_referenced(
    session: WriteSession, organization_id: int, requests: Sequence[HasDependencies]
) -> Referenced:
    """The deployments that requests refer to, with their states locked against changes."""
    references = {item.deployment for request in requests for item in request.dependencies()}
    names = {reference for reference in references if isinstance(reference, str)}
    ids_by_name = await repository.newest_by_name(session, organization_id, names)
    ids = {reference if isinstance(reference, int) else _as_id(reference) for reference in references}
    ids |= set(ids_by_name.values())
    return Referenced(await repository.lock_shared(session, organization_id, ids - {0}), ids_by_name)


async def resolve_for(
    session: WriteSession, deployment: Deployment, requests: Sequence[DependencyRequest]
) -> list[DependencyRef]:
    """New edges of an existing deployment. Raises NotFound, Invalid, Conflict (a cycle, with its names)."""
    request = _Existing(deployment.name, requests)
    found = await lock_referenced(session, deployment.organization_id, [request])
    edges = _edges_of(0, request, {}, found)
    parents = [edge.existing.id for edge in edges if edge.existing is not None]
    graph = await repository.ancestors(session, parents)
    graph[deployment.id] = parents
    cycle = find_cycle(graph, [deployment.id])
    if cycle is not None:
        names = await repository.names_of(session, set(cycle))
        raise _cycle([names.get(id_, str(id_)) for id_ in cycle])
    return edges


@dataclass(frozen=True, slots=True)
class _Existing:
    name: str
    requests: Sequence[DependencyRequest]

    def dependencies(self) -> list[DependencyRequest]:
        return list(self.requests)


def _edges_of(
    index: int, request: HasDependencies, indexes_by_name: Mapping[str, Sequence[int]], found: Referenced
) -> list[DependencyRef]:
    edges: dict[int | tuple[str, int], DependencyRef] = {}
    for dependency in request.dependencies():
        edge = _edge(index, request, dependency, indexes_by_name, found)
        key = edge.existing.id if edge.existing is not None else ("batch", edge.batch_index or 0)
        if key in edges:
            raise Invalid("doubled_dependency", f"depends_on contains {dependency.deployment!r} twice.")
        edges[key] = edge
    return list(edges.values())


def _edge(
    index: int,
    request: HasDependencies,
    dependency: DependencyRequest,
    indexes_by_name: Mapping[str, Sequence[int]],
    found: Referenced,
) -> DependencyRef:
    reference, condition = dependency.deployment, Condition(dependency.condition)
    own = indexes_by_name.get(reference, ()) if isinstance(reference, str) else ()
    others = [batch_index for batch_index in own if batch_index != index]
    if len(others) > 1:
        raise Invalid(
            "ambiguous_dependency",
            f"depends_on: {len(others)} deployments of the batch are named {reference!r}. Use unique names.",
        )
    if others:
        return DependencyRef(condition, batch_index=others[0])
    parent = found.find(reference)
    if parent is None:
        if own:
            raise _cycle([request.name, request.name])
        raise NotFound(
            "deployment_not_found", f"depends_on: the organization has no deployment {reference!r}."
        )
    _check_parent(parent)
    return DependencyRef(condition, existing=parent)


def _check_parent(parent: Deployment) -> None:
    shown = f"{parent.name} ({parent.id})"
    if parent.delete_requested_at is not None:
        raise Conflict("dependency_deleting", f"depends_on: {shown} is being deleted.")
    if parent.state in (State.FAILED.value, State.CANCELLED.value):
        raise Conflict(
            "dependency_failed",
            f"depends_on: {shown} is {parent.state}, so this could never start. "
            f"Start {parent.name} again first.",
        )


def _check_cycles(requests: Sequence[HasDependencies], edges: Sequence[Sequence[DependencyRef]]) -> None:
    graph = {
        index: [edge.batch_index for edge in own if edge.batch_index is not None]
        for index, own in enumerate(edges)
    }
    cycle = find_cycle(graph, range(len(requests)))
    if cycle is not None:
        raise BatchItemError(cycle[0], _cycle([requests[index].name for index in cycle]))


def _cycle(names: Sequence[str]) -> Conflict:
    shown = " -> ".join(names)
    return Conflict(
        "dependency_cycle",
        f"These deployments would wait for each other forever: {shown}. Remove one dependency.",
        extra={"cycle": list(names)},
    )


def _as_id(text: str) -> int:
    """The id in a text of digits, 0 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
