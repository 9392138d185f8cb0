"""Responses about deployments, their attempts and events."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from hypervisor.api.schema import ResponseModel
from hypervisor.kernel.command import CommandForm
from hypervisor.kernel.observation import Health
from hypervisor.lifecycle.dependencies import Condition, DependencyStatus
from hypervisor.lifecycle.gang import ReplicaState
from hypervisor.lifecycle.states import State

_HEALTH = "The last result of the image's HEALTHCHECK. Null: no health check, or none on this runtime."


class DependencyResponse(ResponseModel):
    deployment_id: int
    name: str
    condition: Condition
    status: DependencyStatus


class Endpoint(ResponseModel):
    """The address of a declared port of a live deployment, as seen from the server's machine."""

    port: int
    host: str
    host_port: int
    url: str


class ReplicaResponse(ResponseModel):
    """One replica of the current run: its node, and whether it is starting, running, stopping or ended."""

    replica: int
    node_name: str
    gpu_indices: list[int]
    state: ReplicaState
    exit_code: int | None
    health: Health | None = Field(description=_HEALTH)


class DeploymentResponse(ResponseModel):
    """`status` equals `state`. Secret values of `env` appear as "***"."""

    id: int
    organization_id: int
    cluster_id: int
    cluster_name: str
    created_by: int | None
    name: str
    kind: str
    docker_image: str | None
    command: list[str] | None
    command_form: CommandForm | None = Field(
        description="shell: /bin/sh -c runs the text that is the last argument of `command`. argv: a list."
    )
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
        description="Position by priority and creation time. The order of the scheduler (`explain`, the "
        "cluster's `queue`) also includes shares, age, inherited priorities and back-offs."
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
    """The stored checkpoint. `token` replaces the token of the workload when half of its life is over."""

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
    restarted_at: datetime | None = Field(
        description="When its instance was last started from outside, such as with `docker restart`."
    )
    health: Health | None = Field(description=_HEALTH)
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
    """The reason for the state of a deployment.

    `ahead` are the first deployments before it in the order of the scheduler. `queue_position` is the
    position in this order, which includes shares, age and inherited priorities; that in lists does not.

    `effective_priority` is the priority that the scheduler uses: its own, or the highest one among the
    deployments that wait for it (`inherits_from`). `receipts` are its preemptions, as preemptor or as victim,
    newest first.
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
