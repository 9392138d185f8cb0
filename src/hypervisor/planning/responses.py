"""Answers about decisions: forecasts, the queue, fragmentation, stored decisions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from hypervisor.api.schema import ResponseModel
from hypervisor.scheduling.forecasting.forecast import ForecastOutcome


class NamedDeployment(ResponseModel):
    """`id` and `name` are null for a deployment of an organization that the caller is not in."""

    id: int | None
    name: str | None


class AssignmentResponse(ResponseModel):
    node: str
    gpu_indices: list[int]


class VictimResponse(NamedDeployment):
    """What would be lost is in GPU-seconds, for work without GPUs in CPU-seconds."""

    priority: int
    lost_work_seconds: float


class StartResponse(ResponseModel):
    """A range; null where nobody can know. `how` says how it was reckoned, `after` whose ends bring it."""

    earliest: datetime | None
    latest: datetime | None
    how: str
    after: list[NamedDeployment]


class SuggestionResponse(ResponseModel):
    """A change that would let it start now, in the fields of the request; it was tried with the plan."""

    kind: str
    sentence: str
    changes: dict[str, float] = Field(default_factory=dict)


class ForecastResponse(ResponseModel):
    """What would become of a deployment if it was submitted now.

    `outcome` is fits_now, preempts, waits or never. `node` and `gpu_indices` are those of the first of
    `assignments`, one a replica. `queue_position` counts those that would still wait after the next pass.
    `blocked_by` says which dependency it would wait for first; the rest is then told as if that was met.
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
    """One that waits, with every component of its place.

    The order is by priority; on a cluster with quotas then by `share` less what age is worth (`age_factor`
    from 0 to 1); then by creation, then by id. `share` is its organization's dominant share, with what it
    uses and what it has waiting ahead of this one.
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
    """One pass of the scheduler that changed something, with what it saw and did.

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
    """A typical request, and what the free room is worth to it.

    `weight` is its share of all requests, `fits_now` how many of it alone would fit at once.
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
    could not use, on average over what is typical (F of the FGD paper, in devices)."""

    node: str
    free_cpu_cores: float
    free_ram_gb: float
    free_gpus: int
    idle_gpu: float
    expected_unusable_gpu: float


class MoveResponse(ResponseModel):
    """Running a deployment on another node; done by `POST /clusters/{id}/moves`, never by itself."""

    deployment: NamedDeployment
    from_node: str
    to_node: str
    to_node_id: int
    gpu_indices: list[int]
    lost_work_seconds: float


class OpeningResponse(ResponseModel):
    """The node where the wanted request fits once the moves are done; no moves where it fits already."""

    node: str
    moves: list[MoveResponse]


class PlaceResponse(ResponseModel):
    """Who of those that wait would start where."""

    deployment: NamedDeployment
    node: str


class ConsolidationResponse(ResponseModel):
    """`starts` follow when all `moves` are done. The first `in_turn` moves go into room that is free when
    their turn comes; the others change places with each other, so that one of them has to be stopped first.
    """

    moves: list[MoveResponse]
    in_turn: int
    starts: list[PlaceResponse]


class FragmentationResponse(ResponseModel):
    """`opening` is for the request in the query: null where none was asked for or three moves do not do."""

    shapes: list[ShapeResponse]
    nodes: list[NodeRoomResponse]
    opening: OpeningResponse | None
