"""The shapes of answers about what the scheduler does or would do: forecasts, queues, decisions, moves."""

from __future__ import annotations

from typing import Any, TypedDict


class NamedDeployment(TypedDict):
    """Without id and name where it belongs to an organization that the caller is not in."""

    id: int | None
    name: str | None


class Assignment(TypedDict):
    node: str
    gpu_indices: list[int]


class Victim(NamedDeployment):
    priority: int
    lost_work_seconds: float


class EstimatedStart(TypedDict):
    """When it would start; None where nobody can know. `how` says how that was reckoned."""

    earliest: str | None
    latest: str | None
    how: str
    after: list[NamedDeployment]


class Suggestion(TypedDict):
    kind: str
    sentence: str
    changes: dict[str, float]


class Forecast(TypedDict):
    """What would become of a deployment: `outcome` is fits_now, preempts, waits or never."""

    outcome: str
    sentence: str
    cluster_id: int
    cluster_name: str
    node: str | None
    gpu_indices: list[int]
    assignments: list[Assignment]
    victims: list[Victim]
    queue_position: int | None
    estimated_start: EstimatedStart
    reason: dict[str, Any] | None
    suggestion: Suggestion | None
    other_suggestions: list[Suggestion]
    blocked_by: str | None


class QueueEntry(NamedDeployment):
    """One that waits, with every component of its place in the queue."""

    position: int
    organization_id: int | None
    priority: int
    priority_label: str
    share: float
    age_factor: float
    created_at: str
    waited_seconds: float
    reason_code: str | None
    reason: str | None
    nomination: Assignment | None


class Decision(TypedDict):
    """One pass of the scheduler that changed something; the hashes are SHA-256."""

    id: int
    cluster_id: int
    at: str
    epoch: int
    snapshot_hash: str
    snapshot_bytes: int
    plan_hash: str
    placements: int
    evictions: int
    nominations: int
    waiting: int
    snapshot: str | None


class ShapeFragmentation(TypedDict):
    """A typical request, and what the free room is worth to it."""

    required_cpu_cores: float
    required_ram_gb: float
    required_gpu_count: float
    gpu_models: list[str]
    node_selector: dict[str, str]
    weight: float
    fits_now: int
    unusable_gpu: float


class NodeFragmentation(TypedDict):
    node: str
    free_cpu_cores: float
    free_ram_gb: float
    free_gpus: int
    idle_gpu: float
    expected_unusable_gpu: float


class Move(TypedDict):
    """Running a deployment on another node."""

    deployment: NamedDeployment
    from_node: str
    to_node: str
    to_node_id: int
    gpu_indices: list[int]
    lost_work_seconds: float


class MovesForRequest(TypedDict):
    node: str
    moves: list[Move]


class PlannedStart(TypedDict):
    deployment: NamedDeployment
    node: str


class Consolidation(TypedDict):
    """The first `in_turn` moves can be made one after the other; `starts` follow after all of them."""

    moves: list[Move]
    in_turn: int
    starts: list[PlannedStart]


class Fragmentation(TypedDict):
    shapes: list[ShapeFragmentation]
    nodes: list[NodeFragmentation]
    opening: MovesForRequest | None
