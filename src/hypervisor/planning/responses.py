"""The responses: forecasts, the queue, fragmentation, moves, stored decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from hypervisor.api.schema import ResponseModel
from hypervisor.scheduling.forecasting.forecast import ForecastOutcome


class NamedDeployment(ResponseModel):
    """`id` and `name` are null for a deployment of an organization that the caller is not a member of."""

    id: int | None
    name: str | None


class AssignmentResponse(ResponseModel):
    node: str
    gpu_indices: list[int]


class VictimResponse(NamedDeployment):
    """Lost work is in GPU-seconds, without GPUs in CPU-seconds."""

    priority: int
    lost_work_seconds: float


class StartResponse(ResponseModel):
    """A range; null where it cannot be known. `how` describes the estimate, `after` what ends first."""

    earliest: datetime | None
    latest: datetime | None
    how: str
    after: list[NamedDeployment]


class SuggestionResponse(ResponseModel):
    """A change to the fields of the request with which it would start now. The plan was run with it."""

    kind: str
    sentence: str
    changes: dict[str, float] = Field(default_factory=dict)


class ForecastResponse(ResponseModel):
    """What would happen to a deployment that is submitted now.

    `outcome` is fits_now, preempts, waits or never. `node` and `gpu_indices` are those of the first of
    `assignments`, one for each replica. `queue_position` is that in the queue after the next pass.
    `blocked_by` names the dependency that it would wait for first; the other fields assume that it is met.
    """

    outcome: ForecastOutcome
    sentence: str
    cluster_id: int
    cluster_name: str
    node: str | None
    gpu_indices: list[int]
    assignments: list[AssignmentResponse]
    victims: list[VictimResponse]
    queue_position: int | None
    estimated_start: StartResponse
    reason: dict[str, Any] | None
    suggestion: SuggestionResponse | None
    other_suggestions: list[SuggestionResponse]
    blocked_by: str | None


class QueuedResponse(NamedDeployment):
    """One queued deployment, with the components of its position.

    The order is by priority; on a cluster with quotas then by `share` less a bonus for age (`age_factor` from
    0 to 1); then by creation, then by id. `share` is the dominant share of its organization, with the
    resources that it uses and those of its deployments ahead of this one.
    """

    position: int
    organization_id: int | None
    priority: int
    priority_label: str
    share: float
    age_factor: float
    created_at: datetime
    waited_seconds: float
    reason_code: str | None
    reason: str | None
    nomination: AssignmentResponse | None


class DecisionResponse(ResponseModel):
    """One scheduler pass that changed something.

    The hashes are SHA-256: of the snapshot and of the plan. `snapshot` is in base64, null unless asked for.
    """

    id: int
    cluster_id: int
    at: datetime
    epoch: int
    snapshot_hash: str
    snapshot_bytes: int
    plan_hash: str
    placements: int
    evictions: int
    nominations: int
    waiting: int
    snapshot: str | None = None


class ShapeResponse(ResponseModel):
    """A typical request, and how the free capacity serves it.

    `weight` is its share of all requests, `fits_now` the number of such requests that fit now.
    `unusable_gpu` is idle GPU, in devices, that it could not use.
    """

    required_cpu_cores: float
    required_ram_gb: float
    required_gpu_count: float
    gpu_models: list[str]
    node_selector: dict[str, str]
    weight: float
    fits_now: int
    unusable_gpu: float


class NodeRoomResponse(ResponseModel):
    """`free_gpus` are whole free devices. `expected_unusable_gpu` is the idle GPU that a typical request
    could not use, on average over the target workload (F of the FGD paper, in devices)."""

    node: str
    free_cpu_cores: float
    free_ram_gb: float
    free_gpus: int
    idle_gpu: float
    expected_unusable_gpu: float


class MoveResponse(ResponseModel):
    """A move of a running deployment to another node. It happens only by `POST /clusters/{id}/moves`."""

    deployment: NamedDeployment
    from_node: str
    to_node: str
    to_node_id: int
    gpu_indices: list[int]
    lost_work_seconds: float


class OpeningResponse(ResponseModel):
    """The node where the request fits after the moves; without moves where it fits already."""

    node: str
    moves: list[MoveResponse]


class PlaceResponse(ResponseModel):
    """A queued deployment and the node where it would start."""

    deployment: NamedDeployment
    node: str


class ConsolidationResponse(ResponseModel):
    """`starts` are possible after all `moves`. The first `in_turn` moves go to capacity that is free at their
    turn. The others exchange their nodes, so one of them must be stopped first.
    """

    moves: list[MoveResponse]
    in_turn: int
    starts: list[PlaceResponse]


class FragmentationResponse(ResponseModel):
    """`opening` is for the request in the query: null without one, or when three moves are not enough."""

    shapes: list[ShapeResponse]
    nodes: list[NodeRoomResponse]
    opening: OpeningResponse | None
