"""Submitting deployments: many submissions in one transaction, each made whole or refused."""

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
from hypervisor.deployments.spec.environment import encrypt_environment
from hypervisor.deployments.spec.feasibility import ClusterLimits, placement_limits, shape_of
from hypervisor.deployments.spec.idempotency import KeyedRequest
from hypervisor.deployments.spec.target import PendingRequest
from hypervisor.deployments.state.dependencies import DependencySummary, Parent, summarize_dependencies
from hypervisor.deployments.state.transitions import record_creations, set_reason
from hypervisor.errors import HypervisorError
from hypervisor.identity.principal import Principal
from hypervisor.infra.security.encryption import Encryptor
from hypervisor.lifecycle.states import State
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Cluster, Dependency, Deployment


@dataclass(frozen=True, slots=True)
class Submission:
    """What one request asks for: its deployments are made all or none."""

    principal: Principal
    requests: Sequence[DeploymentCreate]
    encryptor: Encryptor
    now: datetime
    keyed: KeyedRequest | None = None
    traceparent: str | None = None
    """The trace context of the request, where it is traced."""


@dataclass(frozen=True, slots=True)
class Created:
    """A new deployment with what an answer about it says besides its row."""

    deployment: Deployment
    cluster_name: str
    parents: Sequence[Parent]


@dataclass(frozen=True, slots=True)
class Submitted:
    """What was made now; or the ids of what an earlier request with the same Idempotency-Key had made."""

    made: Sequence[Created] = ()
    made_before: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request would go, for whom, and what it would wait for before it may queue."""

    organization_id: int
    cluster: Cluster
    dependencies: DependencySummary


@dataclass(slots=True)
class _Draft:
    """A submission with what the checks have found for it, and what is made of it."""

    submission: Submission
    case: PendingRequest
    made_before: Sequence[int] | None = None
    edges: Sequence[Sequence[DependencyRef]] = ()
    made: Sequence[Deployment] = ()

    @property
    def is_pending(self) -> bool:
        """Whether its deployments are to be made, as far as is known."""
        return self.case.refusal is None and self.made_before is None

    @property
    def members(
        self,
    ) -> tuple[Sequence[DeploymentCreate], Sequence[Cluster], Sequence[Sequence[DependencyRef]]]:
        """What is known of each deployment before it is made."""
        return self.case.requests, self.case.clusters, self.edges

    def outcome(self) -> Submitted | Exception:
        if self.case.refusal is not None:
            return self.case.refusal
        each = zip(self.made, self.case.clusters, self.edges, strict=True)
        made = [Created(one, cluster.name, _parents(self.made, own)) for one, cluster, own in each]
        return Submitted(made, self.made_before or ())


async def find_target(session: WriteSession, principal: Principal, request: DeploymentCreate) -> Target:
    """What `submit` would find for one request; nothing is made.

    Raises what `submit` refuses with, except that no node could ever take it: that is for a forecast to say.
    """
    case = PendingRequest(principal, [request])
    await target.resolve_targets(session, [case])
    if case.refusal is not None:
        raise case.refusal
    (cluster,) = case.clusters
    ClusterLimits(cluster, ()).check_runtime(request.docker_image, request.command)
    found = await dependency_refs.hold_referenced(session, case.organization_id, [request])
    (edges,) = dependency_refs.resolve_edges([request], found)
    return Target(case.organization_id, cluster, summarize_dependencies(_existing_parents(edges)))


async def submit(session: WriteSession, submissions: Sequence[Submission]) -> list[Submitted | Exception]:
    """Make what is asked for, each deployment with its first event; an outcome for each submission.

    What is refused makes nothing, whatever becomes of the others. Its outcome is the refusal: RefusedMember
    around that of one request; NotFound, Forbidden, Invalid or Conflict for all of them. Raises Overtaken.
    """
    drafts = [_Draft(one, PendingRequest(one.principal, one.requests)) for one in submissions]
    for batch in _with_keys_once(drafts):
        await _submit_once(session, batch)
    return [draft.outcome() for draft in drafts]


def _with_keys_once(drafts: Sequence[_Draft]) -> list[list[_Draft]]:
    """The drafts in turns in which no Idempotency-Key comes twice: the next one finds what the first made."""
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
    """`submit` for drafts with keys of their own: look, place, check, make."""
    await _find_made_before(session, drafts)
    await target.resolve_targets(session, [draft.case for draft in _open(drafts)])
    await _check_requirements(session, _open(drafts))
    await _resolve_edges(session, _open(drafts))
    await _make(session, _open(drafts))


def _open(drafts: Sequence[_Draft]) -> list[_Draft]:
    return [draft for draft in drafts if draft.is_pending]


async def _find_made_before(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    keyed = [(draft, draft.submission.keyed) for draft in drafts if draft.submission.keyed is not None]
    found = await idempotency.find(session, [request for _, request in keyed])
    for draft, request in keyed:
        with draft.case.capture_refusal():
            draft.made_before = idempotency.made_before(found, request)


async def _check_requirements(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    by_id = {cluster.id: cluster for draft in drafts for cluster in draft.case.clusters}
    nodes = await clusters.capacities_of(session, by_id)
    limits = {id_: ClusterLimits(cluster, nodes.get(id_, ())) for id_, cluster in by_id.items()}
    for draft in drafts:
        with draft.case.capture_refusal():
            _check_each(draft.case, limits)


def _check_each(case: PendingRequest, limits: Mapping[int, ClusterLimits]) -> None:
    for index, (request, cluster) in enumerate(zip(case.requests, case.clusters, strict=True)):
        wanted = placement_limits(request.all_gpu_models, request.node_selector or {})
        try:
            limits[cluster.id].check_runtime(request.docker_image, request.command)
            limits[cluster.id].check(shape_of(request.resources, wanted), request.replicas)
        except HypervisorError as error:
            raise BatchItemError(index, error) from None


async def _resolve_edges(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    by_organization: dict[int, list[_Draft]] = defaultdict(list)
    for draft in drafts:
        by_organization[draft.case.organization_id].append(draft)
    for organization_id, own in sorted(by_organization.items()):
        requests = [request for draft in own for request in draft.case.requests]
        found = await dependency_refs.hold_referenced(session, organization_id, requests)
        for draft in own:
            with draft.case.capture_refusal():
                draft.edges = dependency_refs.resolve_edges(draft.case.requests, found)


async def _make(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    """Write the deployments and what belongs to them; their numbers follow the order of `drafts`."""
    if not drafts:
        return
    rows = [_row(draft, *one) for draft in drafts for one in zip(*draft.members, strict=True)]
    made = await repository.insert_deployments(session, rows)
    numbered = iter(made)
    for draft in drafts:
        draft.made = list(islice(numbered, len(draft.case.requests)))
    await _insert_edges(session, drafts)
    await repository.insert_labels(session, made)
    await _tell_what_members_wait_for(session, drafts)
    await record_creations(
        session, made, [draft.case.principal.actor for draft in drafts for _ in draft.made]
    )
    await idempotency.remember(
        session,
        [
            (draft.submission.keyed, [one.id for one in draft.made], draft.submission.now)
            for draft in drafts
            if draft.submission.keyed is not None
        ],
    )


def _row(
    draft: _Draft, request: DeploymentCreate, cluster: Cluster, edges: Sequence[DependencyRef]
) -> dict[str, object]:
    """A new deployment by column; what is not here begins as the table says."""
    submission, required = draft.submission, request.resources
    standing = summarize_dependencies(_existing_parents(edges))
    waits_for_member = any(edge.member is not None for edge in edges)
    state = State.BLOCKED if waits_for_member else standing.state
    return {
        "organization_id": draft.case.organization_id,
        "cluster_id": cluster.id,
        "created_by": submission.principal.user_id,
        "name": request.name,
        "kind": request.kind,
        "docker_image": request.docker_image,
        "command": request.command or None,
        "env": encrypt_environment(request.env, submission.encryptor) if request.env else None,
        "ports": request.ports or None,
        "read_only_root": request.read_only_root,
        "cpu_milli": required.cpu_milli,
        "ram_mib": required.ram_mib,
        "gpu_milli": required.gpu_milli,
        "placement_limits": placement_limits(request.all_gpu_models, request.node_selector or {}),
        "replicas": request.replicas,
        "spread": request.placement == "spread",
        "gang_timeout_seconds": request.gang_timeout_seconds,
        "priority": request.priority,
        "preemptible": request.preemptible,
        "min_runtime_seconds": request.min_runtime_seconds,
        "max_runtime_seconds": request.max_runtime_seconds,
        "grace_period_seconds": request.grace_period_seconds,
        "restart_policy": request.chosen_restart_policy,
        "max_retries": request.chosen_max_retries,
        "retry_exit_codes": request.retry_exit_codes or None,
        "on_failure": request.on_failure,
        "labels": request.labels or None,
        "state": state.value,
        "reason_code": standing.code,
        "reason": standing.sentence,
        "traceparent": submission.traceparent,
        "created_at": submission.now,
        "queued_at": submission.now if state is State.QUEUED else None,
    }


async def _insert_edges(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    rows = [
        {"deployment_id": child.id, "depends_on_id": parent.id, "condition": parent.condition.value}
        for draft in drafts
        for child, own in zip(draft.made, draft.edges, strict=True)
        for parent in _parents(draft.made, own)
    ]
    if rows:
        await session.execute(insert(Dependency), rows)


async def _tell_what_members_wait_for(session: WriteSession, drafts: Sequence[_Draft]) -> None:
    """Now that ids are known: the reason of those that wait for other members of their batch."""
    waiting = []
    for draft in drafts:
        for child, own in zip(draft.made, draft.edges, strict=True):
            if any(edge.member is not None for edge in own):
                standing = summarize_dependencies(_parents(draft.made, own))
                set_reason(child, standing.code, standing.sentence)
                waiting.append(child)
    await repository.update_reasons(session, waiting)


def _parents(made: Sequence[Deployment], edges: Sequence[DependencyRef]) -> list[Parent]:
    """What a new deployment depends on, by id; `made` are the members of its batch."""
    members = [(made[edge.member], edge.condition) for edge in edges if edge.member is not None]
    found = [Parent(one.id, one.name, State(one.state), condition) for one, condition in members]
    return sorted([*_existing_parents(edges), *found], key=lambda parent: parent.id)


def _existing_parents(edges: Sequence[DependencyRef]) -> list[Parent]:
    found = [(edge.existing, edge.condition) for edge in edges if edge.existing is not None]
    return [Parent(one.id, one.name, State(one.state), condition) for one, condition in found]
