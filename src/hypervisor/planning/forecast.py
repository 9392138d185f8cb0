"""The dry run: load the scheduler's snapshot, add the request, plan, and describe the result."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hypervisor.control.scheduler.snapshot_loader import ClusterView, load_cluster
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.deployments.spec.feasibility import placement_limits
from hypervisor.deployments.spec.submit import Target
from hypervisor.errors import NotFound
from hypervisor.identity.principal import Principal
from hypervisor.lifecycle.states import State
from hypervisor.planning.forecast_inputs import NamedRow, load_forecast_inputs, load_named
from hypervisor.planning.responses import (
    AssignmentResponse,
    ForecastResponse,
    NamedDeployment,
    StartResponse,
    SuggestionResponse,
    VictimResponse,
)
from hypervisor.scheduling.forecasting.forecast import (
    Assignment,
    ForecastOutcome,
    WhatIfRequest,
    WhatIfResult,
    unused_id,
    what_if,
    with_request,
)
from hypervisor.scheduling.forecasting.start_estimate import ForecastInputs, StartRange, estimate_start
from hypervisor.scheduling.forecasting.suggestions import Suggestion, find_suggestions
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.scheduling.snapshots.wording import listed
from hypervisor.store.database import Database

MOST_NAMED = 3
_UNBOUNDED = float("inf")


@dataclass(frozen=True, slots=True)
class Forecast:
    """The result of one dry run: the plan, the estimated start and suggestions."""

    result: WhatIfResult
    start: StartRange
    suggestions: Sequence[Suggestion]
    node_names: Mapping[int, str]


async def forecast(
    database: Database, principal: Principal, request: DeploymentCreate, target: Target, now: datetime
) -> ForecastResponse:
    """What would happen to the request on its target. Raises NotFound when the cluster was just deleted."""
    async with database.read() as session:
        view = await load_cluster(session, target.cluster.id, now)
        inputs = await load_forecast_inputs(session, target.cluster.id, target.organization_id, now)
    if view is None:
        raise NotFound("cluster_not_found", f"The cluster {target.cluster.name!r} has just been deleted.")
    hypothetical = what_if_request(request, target, view)
    found = await asyncio.to_thread(compute_forecast, view, hypothetical, inputs)
    named_ids = {victim.deployment_id for victim in found.result.victims} | set(found.start.after)
    async with database.read() as session:
        named = await load_named(session, named_ids)
    return _answer(found, target, _Names(named, principal))


def what_if_request(request: DeploymentCreate, target: Target, view: ClusterView) -> WhatIfRequest:
    """The request as a deployment in the snapshot, the youngest of its queue."""
    limits = placement_limits(request.all_gpu_models, request.node_selector or {})
    return WhatIfRequest(
        deployment_id=unused_id(view.snapshot),
        shape=Shape.of(request.resources, limits),
        priority=request.priority,
        created_at=view.snapshot.now,
        preemptible=request.preemptible,
        protected=max(request.min_runtime_seconds, target.cluster.min_runtime_seconds) > 0,
        replicas=request.replicas,
        spread=request.replica_placement == "spread",
        organization_id=target.organization_id,
        max_runtime=float(request.max_runtime_seconds or _UNBOUNDED),
    )


def compute_forecast(view: ClusterView, request: WhatIfRequest, inputs: ForecastInputs) -> Forecast:
    """The pure part, which runs in a thread."""
    snapshot = with_request(view.snapshot, request)
    result = what_if(snapshot, view.policy, request.deployment_id)
    start = estimate_start(snapshot, view.policy, request.deployment_id, result, inputs)
    waits = result.outcome is ForecastOutcome.WAITS and not result.assignments
    suggestions = find_suggestions(view.snapshot, view.policy, request) if waits else ()
    nodes = dict(zip(snapshot.nodes.id.tolist(), snapshot.nodes.name, strict=True))
    return Forecast(result, start, suggestions, nodes)


class _Names:
    """Names of deployments for one caller. Those of organizations that the caller is not in have none."""

    def __init__(self, named: Mapping[int, NamedRow], principal: Principal) -> None:
        self._named = named
        self._principal = principal

    def of(self, deployment_id: int) -> NamedDeployment:
        found = self._named.get(deployment_id)
        if found is None or self._principal.role_in(found.organization_id) is None:
            return NamedDeployment(id=None, name=None)
        return NamedDeployment(id=found.id, name=found.name)

    def priority(self, deployment_id: int) -> int:
        found = self._named.get(deployment_id)
        return found.priority if found else 0

    def listed(self, ids: Sequence[int]) -> str:
        shown = [self.of(id_).name or "a deployment of another organization" for id_ in ids[:MOST_NAMED]]
        more = len(ids) - len(shown)
        return listed([*shown, f"{more} more"] if more else shown)


def _answer(found: Forecast, target: Target, names: _Names) -> ForecastResponse:
    result, cluster = found.result, target.cluster
    assignments = [_assignment(assignment, found.node_names) for assignment in result.assignments]
    suggestions = _suggestions(found, names)
    return ForecastResponse(
        outcome=result.outcome,
        sentence=_sentence(found, assignments, names),
        cluster_id=cluster.id,
        cluster_name=cluster.name,
        node=assignments[0].node if assignments else None,
        gpu_indices=assignments[0].gpu_indices if assignments else [],
        assignments=assignments,
        victims=_victims(result, names),
        queue_position=result.position,
        estimated_start=_start(found.start, names),
        reason=result.reason.as_data()
        if result.reason and result.outcome is not ForecastOutcome.PREEMPTS
        else None,
        suggestion=suggestions[0] if suggestions else None,
        other_suggestions=suggestions[1:],
        blocked_by=target.dependencies.sentence if target.dependencies.state is State.BLOCKED else None,
    )


def _assignment(assignment: Assignment, node_names: Mapping[int, str]) -> AssignmentResponse:
    return AssignmentResponse(node=node_names[assignment.node_id], gpu_indices=list(assignment.gpu_indices))


def _victims(result: WhatIfResult, names: _Names) -> list[VictimResponse]:
    """One entry for each deployment, whatever the number of its replicas."""
    lost: dict[int, float] = {}
    for victim in result.victims:
        lost[victim.deployment_id] = lost.get(victim.deployment_id, 0.0) + victim.lost_work
    return [
        VictimResponse(
            **names.of(id_).model_dump(),
            priority=names.priority(id_),
            lost_work_seconds=round(amount, 3),
        )
        for id_, amount in lost.items()
    ]


def _start(start: StartRange, names: _Names) -> StartResponse:
    return StartResponse(
        earliest=_moment(start.earliest),
        latest=_moment(start.latest),
        how=start.how,
        after=[names.of(id_) for id_ in start.after[:MOST_NAMED]],
    )


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _suggestions(found: Forecast, names: _Names) -> list[SuggestionResponse]:
    result = found.result
    if result.outcome in (ForecastOutcome.FITS_NOW, ForecastOutcome.PREEMPTS):
        return []
    answers = [
        SuggestionResponse(kind=one.kind.value, sentence=one.sentence, changes=dict(one.changes))
        for one in found.suggestions
    ]
    if found.start.earliest is not None and found.start.after:
        ends = f"wait for the end of {names.listed(found.start.after)}"
        answers.append(SuggestionResponse(kind="wait", sentence=ends))
    if not answers and result.reason is not None and result.reason.suggestion:
        answers.append(SuggestionResponse(kind="change", sentence=result.reason.suggestion))
    return answers


def _sentence(found: Forecast, assignments: Sequence[AssignmentResponse], names: _Names) -> str:
    result = found.result
    where = listed(list(dict.fromkeys(assignment.node for assignment in assignments)))
    if result.outcome is ForecastOutcome.FITS_NOW:
        return f"it would start at once on {where}"
    if result.outcome is ForecastOutcome.PREEMPTS:
        ids = list(dict.fromkeys(victim.deployment_id for victim in result.victims))
        return f"it would start on {where} and preempt {names.listed(ids)}"
    why = result.reason.sentence if result.reason else ""
    if result.outcome is ForecastOutcome.NEVER:
        return f"it could never run on this cluster: {why}"
    return f"it would wait at position {result.position}: {why}"
