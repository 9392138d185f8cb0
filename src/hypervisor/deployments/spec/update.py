"""Updates of deployments: all fields while it waits or has ended, a few while it is live."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from hypervisor.clusters import repository as clusters
from hypervisor.deployments.access import repository
from hypervisor.deployments.access.policy import DeploymentAccess
from hypervisor.deployments.schemas.requests import DeploymentUpdate, SecretValue, text_of
from hypervisor.deployments.spec.dependency_refs import resolve_for
from hypervisor.deployments.spec.environment import (
    HIDDEN,
    check_start_size,
    decrypt_environment,
    encrypt_environment,
)
from hypervisor.deployments.spec.feasibility import ClusterLimits, optional_values, placement_limits
from hypervisor.deployments.spec.fields import RESIZING, WHILE_LIVE, changed_values
from hypervisor.deployments.state.dependencies import load_parents, summarize_dependencies
from hypervisor.deployments.state.transitions import move, set_reason
from hypervisor.errors import Conflict
from hypervisor.events.log import record_about
from hypervisor.infra.security.encryption import DecryptionError, Encryptor
from hypervisor.kernel.resources import Resources
from hypervisor.lifecycle.states import LIVE, WAITING, State
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.store.database import WriteSession
from hypervisor.store.tables import Deployment


async def update(
    session: WriteSession,
    access: DeploymentAccess,
    request: DeploymentUpdate,
    *,
    encryptor: Encryptor,
    now: datetime,
) -> Deployment:
    """Change the given fields; null clears a nullable one.

    Raises Conflict "running" for fields that a live deployment cannot change, and the refusals of a submit.
    """
    if "depends_on" in request.model_fields_set:
        # Serialized: two changes that each add half of a cycle must not run concurrently.
        await clusters.lock_organization(session, access.organization_id)
    deployment = await repository.lock(session, access.deployment_id)
    if deployment is None:
        raise access.hidden
    changed_fields = request.model_fields_set
    _check_state(deployment, changed_fields)
    old_priority = deployment.priority
    for column, value in changed_values(request).items():
        setattr(deployment, column, value)
    _apply_size(deployment, request, changed_fields)
    if "env" in changed_fields:
        deployment.env = _environment(deployment.env, request.env or {}, encryptor)
    if changed_fields & {"command", "env"}:
        _check_start_size(deployment, encryptor)
    if "labels" in changed_fields:
        await repository.replace_labels(session, deployment)
    if changed_fields - WHILE_LIVE:
        await _check_requirements(session, deployment, changed_fields)
    if changed_fields & RESIZING:
        await repository.drop_nominations(session, [deployment.id])
    deployment.generation += 1
    _record(session, deployment, changed_fields, old_priority, now, access.principal.actor)
    if "depends_on" in changed_fields:
        await _change_dependencies(session, deployment, request, now, access.principal.actor)
    await session.flush()
    return deployment


def _check_state(deployment: Deployment, changed_fields: Collection[str]) -> None:
    if deployment.delete_requested_at is not None:
        raise Conflict("deployment_deleting", f"{deployment.name} is being deleted.")
    fixed = sorted(set(changed_fields) - WHILE_LIVE)
    if fixed and State(deployment.state) in LIVE:
        raise Conflict(
            "running",
            f"{deployment.name} is {deployment.state}: only {', '.join(sorted(WHILE_LIVE))} can change now, "
            f"not {', '.join(fixed)}. Stop it first.",
        )


def _apply_size(deployment: Deployment, request: DeploymentUpdate, changed_fields: Collection[str]) -> None:
    """Set the given amounts and limits on nodes."""
    requested = Resources.from_edge(
        cpu_cores=request.required_cpu_cores or 0,
        ram_gb=request.required_ram_gb or 0,
        gpu_count=request.required_gpu_count or 0,
    )
    if request.required_cpu_cores is not None:
        deployment.cpu_milli = requested.cpu_milli
    if request.required_ram_gb is not None:
        deployment.ram_mib = requested.ram_mib
    if request.required_gpu_count is not None:
        deployment.gpu_milli = requested.gpu_milli
    limits = deployment.placement_limits or {}
    models, selector = limits.get("gpu_models", []), limits.get("node_selector", {})
    if {"gpu_models", "gpu_model"} & set(changed_fields):
        models = request.all_gpu_models
    if "node_selector" in changed_fields:
        selector = request.node_selector or {}
    deployment.placement_limits = placement_limits(models, selector)


def _environment(
    stored: Mapping[str, Any] | None, requested: Mapping[str, str | SecretValue], encryptor: Encryptor
) -> dict[str, Any] | None:
    """The new environment. The value "***", which responses show for a secret, keeps the stored secret."""
    kept = {
        name: value
        for name, value in (stored or {}).items()
        if isinstance(value, dict) and name in requested and text_of(requested[name]) == HIDDEN
    }
    return {**encrypt_environment(requested, encryptor), **kept} or None


def _check_start_size(deployment: Deployment, encryptor: Encryptor) -> None:
    # Secrets that cannot be decrypted prevent every start, and the launch reports them.
    with suppress(DecryptionError):
        check_start_size(deployment.command, decrypt_environment(deployment.env or {}, encryptor))


async def _check_requirements(
    session: WriteSession, deployment: Deployment, changed_fields: Collection[str]
) -> None:
    cluster = await clusters.find_cluster(session, deployment.cluster_id)
    if cluster is None:
        return
    nodes = await clusters.capacities_of(session, [cluster.id])
    limits = ClusterLimits(cluster, nodes.get(cluster.id, ()))
    required = Resources(deployment.cpu_milli, deployment.ram_mib, deployment.gpu_milli)
    limits.check_runtime(optional_values(deployment), changed_fields)
    limits.check(Shape.of(required, deployment.placement_limits), deployment.replicas)


async def _change_dependencies(
    session: WriteSession, deployment: Deployment, request: DeploymentUpdate, now: datetime, actor: str
) -> None:
    edges = await resolve_for(session, deployment, request.dependencies())
    parents = [(edge.existing.id, edge.condition.value) for edge in edges if edge.existing is not None]
    await repository.replace_dependencies(session, deployment.id, parents)
    state = State(deployment.state)
    if state not in WAITING:
        return
    dependencies = summarize_dependencies(
        (await load_parents(session, [deployment.id])).get(deployment.id, [])
    )
    if dependencies.state is state:
        if state is State.BLOCKED:
            set_reason(deployment, dependencies.code, dependencies.sentence)
        return
    if dependencies.state is State.BLOCKED:
        await repository.drop_nominations(session, [deployment.id])
    move(
        session,
        deployment,
        dependencies.state,
        now=now,
        actor=actor,
        code=dependencies.code,
        sentence=dependencies.sentence,
    )


def _record(
    session: WriteSession,
    deployment: Deployment,
    changed_fields: Collection[str],
    old_priority: int,
    now: datetime,
    actor: str,
) -> None:
    data: dict[str, object] = {"changed": sorted(changed_fields)}
    changes = sorted(changed_fields)
    if "priority" in changed_fields and old_priority != deployment.priority:
        data["priority"] = {"from": old_priority, "to": deployment.priority}
        changes = [
            f"priority ({old_priority} to {deployment.priority})" if field == "priority" else field
            for field in changes
        ]
    record_about(
        session,
        deployment,
        at=now,
        actor=actor,
        type="deployment.updated",
        message=f"changed {', '.join(changes) or 'nothing'}",
        data=data,
    )
