"""Responses about deployments, from a fixed number of queries for each page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import instance_dict

from hypervisor.addresses import url_host
from hypervisor.deployments.access import repository
from hypervisor.deployments.queue import positions
from hypervisor.deployments.schemas.responses import (
    DependencyResponse,
    DeploymentResponse,
    Endpoint,
    ReplicaResponse,
)
from hypervisor.deployments.spec.environment import shown_environment
from hypervisor.deployments.spec.submit import Created
from hypervisor.deployments.state.dependencies import Parent, load_parents
from hypervisor.infra.coordination.queue_index import QueueIndex
from hypervisor.kernel.command import form_of
from hypervisor.kernel.observation import Health
from hypervisor.kernel.priority import priority_label
from hypervisor.kernel.resources import Resources
from hypervisor.lifecycle.gang import Replica, replica_state
from hypervisor.lifecycle.states import State
from hypervisor.store.columns import same_named
from hypervisor.store.tables import Attempt, Deployment

_CONVERTED = frozenset({"env", "ports", "retry_exit_codes", "labels", "state", "state_after_stop"})
"""Columns that responses show in another form."""
_AS_STORED = tuple(
    name for name in same_named(Deployment, DeploymentResponse.model_fields) if name not in _CONVERTED
)


async def describe(
    session: AsyncSession, deployment: Deployment, index: QueueIndex | None = None
) -> DeploymentResponse:
    """`describe_all` for one deployment whose row the session has locked."""
    return (await describe_all(session, [deployment], index))[0]


async def describe_all(
    session: AsyncSession, deployments: Sequence[Deployment], index: QueueIndex | None = None
) -> list[DeploymentResponse]:
    """Responses for these deployments, in their order. One whose cluster was deleted meanwhile is left out.

    Without queue positions if the index is ready: `QueuePositions.fill` adds them after the session.
    """
    ids = [one.id for one in deployments]
    clusters = await repository.cluster_names(session, {one.cluster_id for one in deployments})
    parents = await load_parents(session, ids)
    runs = await repository.live_runs(session, ids)
    queue_positions = await positions.queue_positions(session, positions.not_indexed(index, deployments))
    return [
        _response(
            one,
            cluster_name=clusters[one.cluster_id],
            parents=parents.get(one.id, []),
            run=runs.get(one.id, ()),
            position=queue_positions.get(one.id),
        )
        for one in deployments
        if one.cluster_id in clusters
    ]


def describe_new(created: Sequence[Created]) -> list[DeploymentResponse]:
    """Responses for new deployments from the inserted values; `QueuePositions.fill` adds positions."""
    return [
        _response(new.deployment, cluster_name=new.cluster_name, parents=new.parents, run=(), position=None)
        for new in created
    ]


def dependency_responses(parents: Sequence[Parent]) -> list[DependencyResponse]:
    return [
        DependencyResponse(deployment_id=one.id, name=one.name, condition=one.condition, status=one.status)
        for one in parents
    ]


def _response(
    one: Deployment,
    *,
    cluster_name: str,
    parents: Sequence[Parent],
    run: Sequence[Attempt],
    position: int | None,
) -> DeploymentResponse:
    state = State(one.state)
    live = run[0] if run else None
    required = Resources(one.cpu_milli, one.ram_mib, one.gpu_milli)
    limits = one.placement_limits or {}
    return DeploymentResponse(
        **_as_stored(one),
        cluster_name=cluster_name,
        command_form=form_of(one.command),
        env=shown_environment(one.env),
        ports=one.ports or [],
        required_cpu_cores=required.cpu_cores,
        required_ram_gb=required.ram_gb,
        required_gpu_count=required.gpu_count,
        priority_label=priority_label(one.priority),
        depends_on=dependency_responses(parents),
        retry_exit_codes=one.retry_exit_codes or [],
        labels=one.labels or {},
        node_selector=limits.get("node_selector", {}),
        gpu_models=limits.get("gpu_models", []),
        status=state,
        state=state,
        state_after_stop=State(one.state_after_stop) if one.state_after_stop else None,
        queue_position=position,
        node_name=live.node_name if live else None,
        gpu_indices=live.gpu_indices if live else [],
        placements=[_replica(attempt) for attempt in run],
        endpoints=[_endpoint(binding) for attempt in run for binding in _ports(attempt)],
        checkpoint_at=live.checkpoint_at if live else None,
        checkpoint=live.checkpoint if live else None,
    )


def _as_stored(one: Deployment) -> dict[str, Any]:
    """The values by field. Read from the instance's dictionary, which is faster than its attributes."""
    loaded = instance_dict(one)
    return {name: loaded[name] if name in loaded else getattr(one, name) for name in _AS_STORED}


def _ports(attempt: Attempt) -> Sequence[dict[str, Any]]:
    return (attempt.ports or ()) if attempt.finished_at is None else ()


def _replica(attempt: Attempt) -> ReplicaResponse:
    replica = Replica(
        started=attempt.started_at is not None,
        stopping=attempt.stop_requested_at is not None,
        ended=attempt.finished_at is not None,
        succeeded=attempt.outcome == "succeeded",
    )
    return ReplicaResponse(
        replica=attempt.replica,
        node_name=attempt.node_name,
        gpu_indices=attempt.gpu_indices,
        state=replica_state(replica),
        exit_code=attempt.exit_code,
        health=Health(attempt.health) if attempt.health and attempt.finished_at is None else None,
    )


def _endpoint(binding: dict[str, Any]) -> Endpoint:
    host, host_port = str(binding["host"]), int(binding["host_port"])
    return Endpoint(
        port=int(binding["port"]), host=host, host_port=host_port, url=f"http://{url_host(host)}:{host_port}"
    )
