"""Loads live attempts with all data for acting on them, so that no session is open during calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, or_, select

from hypervisor.control.reconciler.recorded_end import recorded_end
from hypervisor.kernel.engine_ref import EngineRef
from hypervisor.kernel.names import InstanceName
from hypervisor.kernel.observation import Health
from hypervisor.kernel.resources import Resources
from hypervisor.lifecycle.decide import Desired
from hypervisor.runtimes.protocol import API_NAMES, LaunchSpec
from hypervisor.store.chunks import chunks
from hypervisor.store.database import ReadSession
from hypervisor.store.tables import Attempt, Deployment

StopRequests = dict[str, datetime | None]
"""The time of the stop request of each instance, or None."""


@dataclass(frozen=True, slots=True)
class LiveAttempt:
    """A live attempt as loaded. Values in `env` may be encrypted; they are decrypted for the launch only."""

    attempt_id: int
    deployment_id: int
    organization_id: int
    instance: str
    engine: EngineRef
    node_name: str
    created_at: datetime
    traceparent: str | None
    desired: Desired
    launch: LaunchSpec
    """Without its environment: see `launch_spec`."""
    env: Mapping[str, Any]
    replica: int
    replicas: int
    gang_nodes: tuple[str, ...]
    """The node of each replica of its run."""


async def load_live(session: ReadSession, instances: Collection[str]) -> list[LiveAttempt]:
    """The live attempts among these instances; ended and unknown ones are left out."""
    attempts: list[LiveAttempt] = []
    for chunk in chunks(sorted(instances)):
        rows = (await session.execute(_LIVE, {"instances": chunk})).all()
        nodes = await _gang_nodes(session, {row.deployment_id for row in rows if row.replicas > 1})
        attempts.extend(_from_row(row, nodes.get(row.deployment_id, [row.node_name])) for row in rows)
    return attempts


async def _gang_nodes(session: ReadSession, ids: Collection[int]) -> dict[int, list[str]]:
    """The nodes of all replicas, by replica, of these deployments."""
    if not ids:
        return {}
    rows = await session.execute(
        select(Attempt.deployment_id, Attempt.node_name)
        .join(Deployment, Deployment.id == Attempt.deployment_id)
        .where(Deployment.id.in_(sorted(ids)), Attempt.number == Deployment.attempts_made)
        .order_by(Attempt.deployment_id, Attempt.replica)
    )
    nodes: dict[int, list[str]] = {}
    for deployment_id, node_name in rows:
        nodes.setdefault(deployment_id, []).append(node_name)
    return nodes


async def pending_instances(session: ReadSession) -> dict[EngineRef, StopRequests]:
    """Live attempts with a pending start or stop, found without a hint."""
    return await _by_engine(session, _PENDING)


async def all_live_instances(session: ReadSession) -> dict[EngineRef, StopRequests]:
    return await _by_engine(session, _INSTANCES)


async def _by_engine(
    session: ReadSession, query: Select[str, datetime | None, str, str | None]
) -> dict[EngineRef, StopRequests]:
    attempts: dict[EngineRef, StopRequests] = defaultdict(dict)
    for instance, stop_requested_at, runtime, endpoint in await session.execute(query):
        attempts[EngineRef(runtime, endpoint)][instance] = stop_requested_at
    return attempts


def launch_spec(attempt: LiveAttempt, env: Mapping[str, str]) -> LaunchSpec:
    """The input of the runtime; `env` is that of the deployment with its secrets decrypted.

    `HV_*` variables tell the workload its deployment, attempt, node and gang.
    """
    name = InstanceName.parse(attempt.instance)
    identity = {
        "HV_DEPLOYMENT_ID": str(attempt.deployment_id),
        "HV_ORGANIZATION_ID": str(attempt.organization_id),
        "HV_ATTEMPT": str(name.attempt if name else 0),
        "HV_NODE": attempt.node_name,
        "HV_REPLICA": str(attempt.replica),
        "HV_REPLICAS": str(attempt.replicas),
        "HV_GANG_NODES": ",".join(attempt.gang_nodes),
    }
    return replace(attempt.launch, env={**env, **identity})


_OF_THE_ATTEMPT = frozenset({"instance", "resources", "gpu_indices", "gpu_milli", "env"})
"""Fields of a launch spec that are not copied from the deployment's row."""
_COLUMNS = {
    field.name: getattr(Deployment, API_NAMES.get(field.name, field.name))
    for field in fields(LaunchSpec)
    if field.name not in _OF_THE_ATTEMPT
}
"""The column of each other field of a launch spec. One without a column stops the server at its start."""

# Built once: every pass of the reconciler runs these.
_INSTANCES = select(
    Attempt.instance, Attempt.stop_requested_at, Attempt.runtime, Attempt.engine_endpoint
).where(Attempt.finished_at.is_(None))
_PENDING = _INSTANCES.where(or_(Attempt.started_at.is_(None), Attempt.stop_requested_at.is_not(None)))
_LIVE = (
    select(
        Attempt.id,
        Attempt.deployment_id,
        Attempt.organization_id,
        Attempt.instance,
        Attempt.runtime,
        Attempt.engine_endpoint,
        Attempt.node_name,
        Attempt.created_at,
        Attempt.started_at,
        Attempt.stop_requested_at,
        Attempt.stop_grace_seconds,
        Attempt.restarted_at,
        Attempt.health,
        Attempt.end_observed,
        Attempt.gpu_indices,
        Attempt.gpu_milli_per_device,
        Attempt.replica,
        Deployment.traceparent,
        Deployment.max_runtime_seconds,
        Deployment.env,
        *_COLUMNS.values(),
        Deployment.cpu_milli,
        Deployment.ram_mib,
        Deployment.gpu_milli,
        Deployment.replicas,
    )
    .join(Deployment, Deployment.id == Attempt.deployment_id)
    .where(Attempt.finished_at.is_(None), Attempt.instance.in_(bindparam("instances", expanding=True)))
)


def _from_row(row: Any, gang_nodes: Sequence[str]) -> LiveAttempt:
    return LiveAttempt(
        attempt_id=row.id,
        deployment_id=row.deployment_id,
        organization_id=row.organization_id,
        instance=row.instance,
        engine=EngineRef(row.runtime, row.engine_endpoint),
        node_name=row.node_name,
        created_at=row.created_at,
        traceparent=row.traceparent,
        desired=Desired(
            started_at=row.started_at,
            stop_requested_at=row.stop_requested_at,
            grace_seconds=row.stop_grace_seconds or 0,
            max_runtime_seconds=row.max_runtime_seconds,
            restarted_at=row.restarted_at,
            health=None if row.health is None else Health(row.health),
            end=recorded_end(row.end_observed),
        ),
        launch=_launch(row),
        env=row.env or {},
        replica=row.replica,
        replicas=row.replicas,
        gang_nodes=tuple(gang_nodes),
    )


def _launch(row: Any) -> LaunchSpec:
    values = {name: getattr(row, column.key) for name, column in _COLUMNS.items()}
    return LaunchSpec(
        instance=row.instance,
        resources=Resources(row.cpu_milli, row.ram_mib, row.gpu_milli),
        gpu_indices=tuple(row.gpu_indices),
        gpu_milli=row.gpu_milli_per_device,
        **{name: _frozen(value) for name, value in values.items() if value is not None},
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
