"""Answers about deployments, their attempts and events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from hypervisor.api.schema import ResponseModel
from hypervisor.lifecycle.dependencies import Condition, DependencyStatus
from hypervisor.lifecycle.gang import ReplicaState
from hypervisor.lifecycle.states import State


class DependencyResponse(ResponseModel):
    deployment_id: int
    name: str
    condition: Condition
    status: DependencyStatus


class Endpoint(ResponseModel):
    """Where a declared port of a live deployment can be reached from the server's machine."""

    port: int
    host: str
    host_port: int
    url: str


class ReplicaResponse(ResponseModel):
    """One replica of the present run: where it is, and whether it is starting, running, stopping or ended."""

    replica: int
    node_name: str
    gpu_indices: list[int]
    state: ReplicaState
    exit_code: int | None


class DeploymentResponse(ResponseModel):
    """`status` and `state` are the same. Secret values of `env` are shown as "***"."""

    id: int
    organization_id: int
    cluster_id: int
    cluster_name: str
    created_by: int | None
    name: str
    kind: str
    docker_image: str | None
    command: list[str] | None
    env: dict[str, str]
    ports: list[int]
    working_dir: str | None
    required_cpu_cores: float
    required_ram_gb: float
    required_gpu_count: float
    priority: int
    priority_label: str
    depends_on: list[DependencyResponse]
    on_failure: str
    preemptible: bool
    min_runtime_seconds: int
    max_runtime_seconds: int | None
    grace_period_seconds: int
    restart_policy: str
    max_retries: int
    retry_exit_codes: list[int]
    labels: dict[str, str]
    node_selector: dict[str, str]
    gpu_models: list[str]
    replicas: int
    replica_placement: str
    gang_timeout_seconds: int
    placements: list[ReplicaResponse]
    read_only_root: bool
    status: State
    state: State
    state_after_stop: State | None
    reason: str | None
    reason_code: str | None
    reason_data: dict[str, Any] | None
    queue_position: int | None = Field(
        description="Its place by priority and creation. The scheduler's own order (`explain`, the cluster's "
        "`queue`) also knows shares, age, lent priorities and back-offs."
    )
    attempts_made: int
    retries_used: int
    preemptions: int
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    node_name: str | None
    gpu_indices: list[int]
    endpoints: list[Endpoint]
    checkpoint_at: datetime | None
    checkpoint: dict[str, Any] | None
    delete_requested_at: datetime | None


class CheckpointResponse(ResponseModel):
    """What was kept. `token` replaces the workload's own where that one is past half of its life."""

    deployment_id: int
    attempt: int
    checkpoint_at: datetime
    checkpoint: dict[str, Any]
    token: str | None = None


class AttemptResponse(ResponseModel):
    number: int
    replica: int
    node_name: str
    runtime: str
    instance: str
    gpu_indices: list[int]
    created_at: datetime
    started_at: datetime | None
    stop_requested_at: datetime | None
    stop_reason: str | None
    preempted_by: int | None
    finished_at: datetime | None
    outcome: str | None
    exit_code: int | None
    message: str | None
    ports: list[dict[str, Any]] | None
    checkpoint_at: datetime | None
    checkpoint: dict[str, Any] | None


class EventResponse(ResponseModel):
    id: int
    organization_id: int
    cluster_id: int | None
    deployment_id: int | None
    at: datetime
    actor: str
    type: str
    from_state: str | None
    to_state: str | None
    code: str | None
    message: str
    data: dict[str, Any] | None


class QueuedAhead(ResponseModel):
    deployment_id: int
    name: str
    priority: int


class Explanation(ResponseModel):
    """Why a deployment is as it is. `ahead` are the first of those before it in the queue, in the scheduler's
    order: unlike the place in lists, `queue_position` counts shares, age and inherited priorities too.

    `effective_priority` is what the scheduler goes by: its own, or that of the highest one that waits for it
    to end or run (`inherits_from`). `receipts` are the preemptions that it took part in, newest first, as
    preemptor or as victim.
    """

    deployment_id: int
    name: str
    status: State
    sentence: str
    reason: dict[str, Any] | None
    priority: int
    effective_priority: int
    inherits_from: QueuedAhead | None
    queue_position: int | None
    ahead: list[QueuedAhead]
    dependencies: list[DependencyResponse]
    receipts: list[dict[str, Any]]
