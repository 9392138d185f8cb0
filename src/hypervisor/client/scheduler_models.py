"""Response types of the scheduler: forecasts, queue entries, decisions, fragmentation, moves."""

from __future__ import annotations

from typing import Any, TypedDict


class NamedDeployment(TypedDict):
    """A deployment. Id and name are None when it belongs to an organization without the caller."""

    id: int | None
    name: str | None


class Assignment(TypedDict):
    node: str
    gpu_indices: list[int]


class Victim(NamedDeployment):
    priority: int
    lost_work_seconds: float


class EstimatedStart(TypedDict):
    """The estimated start; None when it cannot be estimated. `how` explains the estimate."""

    earliest: str | None
    latest: str | None
    how: str
    after: list[NamedDeployment]


class Suggestion(TypedDict):
    kind: str
    sentence: str
    changes: dict[str, float]


class Forecast(TypedDict):
    """A forecast for a deployment: `outcome` is fits_now, preempts, waits or never."""

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
    """A queued deployment with its position and the sort keys of the queue."""

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
    """A scheduling pass that changed something. The hashes are SHA-256."""

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
    """A typical request and the free capacity that it can use."""

    required_cpu_cores: float
    required_ram_gb: float
    required_gpu_count: float
    gpu_models: list[str]
    node_selector: dict[str, str]
    weight: float
    fits_now: int
    unusable_gpu: float


class NodeFragmentation(TypedDict):
    """The free capacity of a node and the part that typical requests cannot use."""

    node: str
    free_cpu_cores: float
    free_ram_gb: float
    free_gpus: int
    idle_gpu: float
    expected_unusable_gpu: float


class Move(TypedDict):
    """A move of a running deployment to another node."""

    deployment: NamedDeployment
    from_node: str
    to_node: str
    to_node_id: int
    gpu_indices: list[int]
    lost_work_seconds: float


class MovesForRequest(TypedDict):
    """The moves after which a request fits on `node`."""

    node: str
    moves: list[Move]


class PlannedStart(TypedDict):
    """A queued deployment and the node on which it would start."""

    deployment: NamedDeployment
    node: str


class Consolidation(TypedDict):
    """Proposed moves. The first `in_turn` can be made one after the other; `starts` follow all moves."""

    moves: list[Move]
    in_turn: int
    starts: list[PlannedStart]


class Fragmentation(TypedDict):
    """The fragmentation of a cluster; `opening` is None without a request."""

    shapes: list[ShapeFragmentation]
    nodes: list[NodeFragmentation]
    opening: MovesForRequest | None
