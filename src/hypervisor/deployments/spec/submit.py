"""Submission of deployments: many submissions in one transaction, each accepted whole or refused."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import insert

from hypervisor.clusters import repository as clusters
from hypervisor.deployments.access import repository
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.spec import dependency_refs, idempotency, target
from hypervisor.deployments.spec.dependency_refs import BatchItemError, DependencyRef
from hypervisor.deployments.spec.environment import check_start_size, encrypt_environment
from hypervisor.deployments.spec.feasibility import ClusterLimits, optional_values, placement_limits
from hypervisor.deployments.spec.fields import stored_values
from hypervisor.deployments.spec.idempotency import KeyedRequest
from hypervisor.deployments.spec.target import PendingRequest
from hypervisor.deployments.state.dependencies import DependencySummary, Parent, summarize_dependencies
from hypervisor.deployments.state.transitions import record_creations, set_reason
from hypervisor.errors import HypervisorError
from hypervisor.identity.principal import Principal
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.lifecycle.states import State
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Dependency, Deployment


@dataclass(frozen=True, slots=True)
class Submission:
    """One request: all of its deployments are created or none."""

    principal: Principal
    requests: Sequence[DeploymentCreate]
    encryptor: Encryptor
    now: datetime
    keyed: KeyedRequest | None = None
    traceparent: str | None = None
    """The W3C trace context of the request, if any."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new deployment with the data of a response that its row lacks."""

    deployment: Deployment
    cluster_name: str
    parents: Sequence[Parent]


@dataclass(frozen=True, slots=True)
class Submitted:
    """New deployments, or the ids of those that an earlier request with the same key created."""

    created: Sequence[Created] = ()
    earlier_ids: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """The cluster and organization of a request, with the state of its dependencies."""

    organization_id: int
    cluster: Cluster
    dependencies: DependencySummary


@dataclass(slots=True)
class _Draft:
    """A submission in progress: results of the checks, then the new deployments."""

    submission: Submission
    case: PendingRequest
    earlier_ids: Sequence[int] | None = None
    edges: Sequence[Sequence[DependencyRef]] = ()
    created: Sequence[Deployment] = ()

    @property
    def is_pending(self) -> bool:
        """Whether its deployments are still to be created."""
        return self.case.refusal is None and self.earlier_ids is None

    @property
    def items(
        self,
    ) -> tuple[Sequence[DeploymentCreate], Sequence[Cluster], Sequence[Sequence[DependencyRef]]]:
        """Request, cluster and edges of each deployment."""
        return self.case.requests, self.case.clusters, self.edges

    def outcome(self) -> Submitted | Exception:
        if self.case.refusal is not None:
            return self.case.refusal
        each = zip(self.created, self.case.clusters, self.edges, strict=True)
        created = [Created(row, cluster.name, _parents(self.created, edges)) for row, cluster, edges in each]
        return Submitted(created, self.earlier_ids or ())


async def find_target(session: WriteSession, principal: Principal, request: DeploymentCreate) -> Target:
    """The target of one request. Nothing is created.

    Raises the refusals of `submit`, except for a request that no node can ever run: the forecast reports it.
    """
    case = PendingRequest(principal, [request])
    await target.resolve_targets(session, [case])
    if case.refusal is not None:
        raise case.refusal
    (cluster,) = case.clusters
    ClusterLimits(cluster, ()).check_runtime(optional_values(request))
    check_start_size(request.command, request.plain_environment())
    found = await dependency_refs.lock_referenced(session, case.organization_id, [request])
    (edges,) = dependency_refs.resolve_edges([request], found)
    return Target(case.organization_id, cluster, summarize_dependencies(_existing_parents(edges)))


async def submit(session: WriteSession, submissions: Sequence[Submission]) -> list[Submitted | Exception]:
    """Create the deployments with their first events; returns one outcome for each submission.

    A refused submission creates nothing and does not affect the others. Its outcome is the error:
    BatchItemError for one request; NotFound, Forbidden, Invalid or Conflict for all. Raises ConcurrentWrite.
    """
    drafts = [_Draft(one, PendingRequest(one.principal, one.requests)) for one in submissions]
    for batch in _with_keys_once(drafts):
        await _submit_once(session, batch)
    return [draft.outcome() for draft in drafts]


def _with_keys_once(drafts: Sequence[_Draft]) -> list[list[_Draft]]:
    """The drafts in batches without a repeated key: a later one finds the result of the first."""
    turns: list[list[_Draft]] = [[]]
    uses: Counter[tuple[int, str]] = Counter()
    for draft in drafts:
        keyed, turn = draft.submission.keyed, 0
        if keyed is not None:
            turn = uses[keyed.user_id, keyed.key]
            uses[keyed.user_id, keyed.key] += 1
        if turn == len(turns):
            turns.append([])
        turns[turn].append(draft)
    return turns


async def _submit_once(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    """`submit` for drafts with distinct keys: find earlier results, resolve targets, check, create."""
    await _find_earlier_results(session, drafts)
    await target.resolve_targets(session, [draft.case for draft in _open(drafts)])
    await _check_requirements(session, _open(drafts))
    await _resolve_edges(session, _open(drafts))
    await _create(session, _open(drafts))


def _open(drafts: Sequence[_Draft]) -> list[_Draft]:
    return [draft for draft in drafts if draft.is_pending]


async def _find_earlier_results(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    keyed = [(draft, draft.submission.keyed) for draft in drafts if draft.submission.keyed is not None]
    found = await idempotency.find(session, [request for _, request in keyed])
    for draft, request in keyed:
        with draft.case.capture_refusal():
            draft.earlier_ids = idempotency.earlier_result(found, request)


async def _check_requirements(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    by_id = {cluster.id: cluster for draft in drafts for cluster in draft.case.clusters}
    nodes = await clusters.capacities_of(session, by_id)
    limits = {id_: ClusterLimits(cluster, nodes.get(id_, ())) for id_, cluster in by_id.items()}
    for draft in drafts:
        with draft.case.capture_refusal():
            _check_each(draft.case, limits)


def _check_each(case: PendingRequest, limits: Mapping[int, ClusterLimits]) -> None:
    for index, (request, cluster) in enumerate(zip(case.requests, case.clusters, strict=True)):
        node_limits = placement_limits(request.all_gpu_models, request.node_selector or {})
        try:
            limits[cluster.id].check_runtime(optional_values(request))
            check_start_size(request.command, request.plain_environment())
            limits[cluster.id].check(Shape.of(request.resources, node_limits), request.replicas)
        except HypervisorError as error:
            raise BatchItemError(index, error) from None


async def _resolve_edges(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    by_organization: dict[int, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        by_organization[draft.case.organization_id].append(draft)
    for organization_id, own in sorted(by_organization.items()):
        requests = [request for draft in own for request in draft.case.requests]
        found = await dependency_refs.lock_referenced(session, organization_id, requests)
        for draft in own:
            with draft.case.capture_refusal():
                draft.edges = dependency_refs.resolve_edges(draft.case.requests, found)


async def _create(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    """Insert the deployments, their edges, labels and events. Ids follow the order of `drafts`."""
    if not drafts:
        return
    rows = [_row(draft, *item) for draft in drafts for item in zip(*draft.items, strict=True)]
    created = await repository.insert_deployments(session, rows)
    numbered = iter(created)
    for draft in drafts:
        draft.created = list(islice(numbered, len(draft.case.requests)))
    await _insert_edges(session, drafts)
    await repository.insert_labels(session, created)
    await _set_reasons_within_batch(session, drafts)
    await record_creations(
        session, created, [draft.case.principal.actor for draft in drafts for _ in draft.created]
    )
    await idempotency.remember(
        session,
        [
            (draft.submission.keyed, [one.id for one in draft.created], draft.submission.now)
            for draft in drafts
            if draft.submission.keyed is not None
        ],
    )


def _row(
    draft: _Draft, request: DeploymentCreate, cluster: Cluster, edges: Sequence[DependencyRef]
) -> dict[str, object]:
    """The columns of a new deployment. All others have the defaults of the table."""
    submission, required = draft.submission, request.resources
    dependencies = summarize_dependencies(_existing_parents(edges))
    waits_for_batch = any(edge.batch_index is not None for edge in edges)
    state = State.BLOCKED if waits_for_batch else dependencies.state
    return {
        **stored_values(request),
        "organization_id": draft.case.organization_id,
        "cluster_id": cluster.id,
        "created_by": submission.principal.user_id,
        "env": encrypt_environment(request.env, submission.encryptor) if request.env else None,
        "cpu_milli": required.cpu_milli,
        "ram_mib": required.ram_mib,
        "gpu_milli": required.gpu_milli,
        "placement_limits": placement_limits(request.all_gpu_models, request.node_selector or {}),
        "restart_policy": request.chosen_restart_policy,
        "max_retries": request.chosen_max_retries,
        "state": state.value,
        "reason_code": dependencies.code,
        "reason": dependencies.sentence,
        "traceparent": submission.traceparent,
        "created_at": submission.now,
        "queued_at": submission.now if state is State.QUEUED else None,
    }


async def _insert_edges(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    rows = [
        {"deployment_id": child.id, "depends_on_id": parent.id, "condition": parent.condition.value}
        for draft in drafts
        for child, own in zip(draft.created, draft.edges, strict=True)
        for parent in _parents(draft.created, own)
    ]
    if rows:
        await session.execute(insert(Dependency), rows)


async def _set_reasons_within_batch(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    """Set the reasons of deployments that wait for others of their batch, which have ids now."""
    waiting = []
    for draft in drafts:
        for child, own in zip(draft.created, draft.edges, strict=True):
            if any(edge.batch_index is not None for edge in own):
                dependencies = summarize_dependencies(_parents(draft.created, own))
                set_reason(child, dependencies.code, dependencies.sentence)
                waiting.append(child)
    await repository.update_reasons(session, waiting)


def _parents(created: Sequence[Deployment], edges: Sequence[DependencyRef]) -> list[Parent]:
    """The dependencies of a new deployment, by id; `created` are the deployments of its batch."""
    items = [(created[edge.batch_index], edge.condition) for edge in edges if edge.batch_index is not None]
    found = [Parent(one.id, one.name, State(one.state), condition) for one, condition in items]
    return sorted([*_existing_parents(edges), *found], key=lambda parent: parent.id)


def _existing_parents(edges: Sequence[DependencyRef]) -> list[Parent]:
    found = [(edge.existing, edge.condition) for edge in edges if edge.existing is not None]
    return [Parent(one.id, one.name, State(one.state), condition) for one, condition in found]
