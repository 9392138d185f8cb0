"""Response types. A newer server may send more fields than declared here; they pass through."""

from __future__ import annotations

from typing import Any, Generic, TypedDict, TypeVar

T = TypeVar("T")


class Page(TypedDict, Generic[T]):
    """One page of a list; `next_cursor` is None on the last one."""

    items: list[T]
    next_cursor: str | None


class OrganizationRole(TypedDict):
    organization_id: int
    name: str
    role: str


class User(TypedDict, total=False):
    """A user; `organizations` is set only for the current user."""

    id: int
    username: str
    email: str
    is_superuser: bool
    is_active: bool
    created_at: str
    organizations: list[OrganizationRole]


class Organization(TypedDict, total=False):
    id: int
    name: str
    role: str
    """The caller's own role."""
    created_at: str


class InviteCode(TypedDict, total=False):
    invite_code: str
    role: str
    expires_at: str | None
    max_uses: int | None
    uses: int


class Member(TypedDict, total=False):
    user_id: int
    username: str
    email: str
    role: str
    joined_at: str


class Amounts(TypedDict):
    """CPU in cores, RAM in GiB, GPU in devices."""

    cpu_cores: float
    ram_gb: float
    gpu_count: float


class GpuUse(TypedDict):
    """A GPU of a node; `used` is its allocated share, 0 to 1."""

    index: int
    used: float


class Node(TypedDict, total=False):
    id: int
    cluster_id: int
    name: str
    cpu_cores: float
    ram_gb: float
    gpu_count: int
    gpu_model: str | None
    labels: dict[str, str]
    engine_endpoint: str | None
    cordoned: bool
    draining: bool
    status: str
    capacity: Amounts
    allocated: Amounts
    available: Amounts
    shrinking_to: Amounts | None
    gpus: list[GpuUse]
    created_at: str


class Cluster(TypedDict, total=False):
    id: int
    organization_id: int
    name: str
    runtime: str
    resolved_runtime: str
    runtime_note: str
    placement_policy: str
    optimizer_steps: int
    solver: str
    preemption: bool
    min_runtime_seconds: int
    preemption_budget: int
    preemption_window_seconds: int
    preemption_cooldown_seconds: int
    created_at: str
    status: str
    shared: bool
    total_cpu_cores: float
    total_ram_gb: float
    total_gpu_count: float
    capacity: Amounts
    allocated: Amounts
    available: Amounts
    node_count: int
    nodes: list[Node]


class ClusterShare(TypedDict):
    """The share of an organization in a cluster of another one. A limit of None is no limit."""

    cluster_id: int
    cluster_name: str
    organization_id: int
    state: str
    guaranteed: Amounts
    limit: dict[str, float | None]
    weight: float
    used: Amounts
    waiting: int
    offered_at: str
    answered_at: str | None


class Endpoint(TypedDict, total=False):
    port: int
    host: str
    host_port: int
    url: str


class DependencyStatus(TypedDict, total=False):
    deployment_id: int
    name: str
    condition: str
    status: str


class Replica(TypedDict):
    """One replica of the present run."""

    replica: int
    node_name: str
    gpu_indices: list[int]
    state: str
    exit_code: int | None
    health: str | None
    """The last result of the image's health check: starting, healthy or unhealthy."""


class DeploymentSpec(TypedDict, total=False):
    """The fields of a request as stored by the server, with its defaults."""

    organization_id: int
    cluster_id: int
    name: str
    kind: str
    docker_image: str | None
    command: list[str] | None
    env: dict[str, Any]
    ports: list[int]
    working_dir: str | None
    read_only_root: bool
    required_cpu_cores: float
    required_ram_gb: float
    required_gpu_count: float
    priority: int
    depends_on: list[DependencyStatus]
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


class Deployment(DeploymentSpec, total=False):
    id: int
    command_form: str | None
    """`shell` for a command that was submitted as a text, `argv` for a list."""
    created_by: int | None
    cluster_name: str
    priority_label: str
    placements: list[Replica]
    status: str
    state: str
    state_after_stop: str | None
    reason: str | None
    reason_code: str | None
    reason_data: dict[str, Any] | None
    queue_position: int | None
    attempts_made: int
    retries_used: int
    preemptions: int
    created_at: str
    queued_at: str | None
    started_at: str | None
    finished_at: str | None
    exit_code: int | None
    node_name: str | None
    gpu_indices: list[int]
    endpoints: list[Endpoint]
    checkpoint_at: str | None
    """Time of the last checkpoint report of the live attempt."""
    checkpoint: dict[str, Any] | None
    delete_requested_at: str | None


class Attempt(TypedDict, total=False):
    number: int
    replica: int
    node_name: str
    runtime: str
    instance: str
    gpu_indices: list[int]
    created_at: str
    started_at: str | None
    stop_requested_at: str | None
    stop_reason: str | None
    preempted_by: int | None
    restarted_at: str | None
    health: str | None
    finished_at: str | None
    outcome: str | None
    exit_code: int | None
    message: str | None
    ports: list[Endpoint]
    checkpoint_at: str | None
    checkpoint: dict[str, Any] | None


class Event(TypedDict, total=False):
    id: int
    at: str
    actor: str
    type: str
    from_state: str | None
    to_state: str | None
    code: str | None
    message: str
    data: dict[str, Any] | None
    deployment_id: int | None
    cluster_id: int | None


class Party(TypedDict, total=False):
    """A deployment in a preemption receipt. The id is None for another organization's deployment."""

    id: int | None
    name: str
    priority: int
    lost_work_seconds: float
    why: str


class Receipt(TypedDict, total=False):
    """A preemption receipt, the same for the preemptor and the victims."""

    at: str
    role: str
    rule: str
    rule_sentence: str
    preemptor: Party
    victims: list[Party]
    spared: list[Party]
    node: str
    returns: str


class Ahead(TypedDict):
    deployment_id: int
    name: str
    priority: int


class Explanation(TypedDict, total=False):
    deployment_id: int
    status: str
    sentence: str
    reason: dict[str, Any] | None
    priority: int
    effective_priority: int
    inherits_from: Ahead | None
    queue_position: int | None
    ahead: list[Ahead]
    dependencies: list[DependencyStatus]
    receipts: list[Receipt]


class SystemInfo(TypedDict, total=False):
    version: str
    database: str
    runtimes: Any
    install_id: str
