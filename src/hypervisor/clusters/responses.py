"""Responses about clusters and nodes, and their construction from rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from hypervisor.api.schema import ResponseModel
from hypervisor.kernel.resources import WHOLE_GPU, Resources
from hypervisor.runtimes.kinds import AUTO, RUNTIMES, honoured_by
from hypervisor.store.columns import same_named
from hypervisor.store.tables import Cluster, Node, NodeGpu

NodeStatus = Literal["ready", "cordoned", "draining", "deleting", "shrinking"]


class Amounts(ResponseModel):
    cpu_cores: float
    ram_gb: float
    gpu_count: float

    @classmethod
    def of(cls, resources: Resources) -> Amounts:
        return cls(cpu_cores=resources.cpu_cores, ram_gb=resources.ram_gb, gpu_count=resources.gpu_count)


class GpuResponse(ResponseModel):
    """One device; `used` is the allocated share, from 0 to 1."""

    index: int
    used: float


class NodeResponse(ResponseModel):
    """`available` is capacity minus allocated, whether or not the node accepts new work."""

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
    status: NodeStatus
    capacity: Amounts
    allocated: Amounts
    available: Amounts
    shrinking_to: Amounts | None
    gpus: list[GpuResponse]
    created_at: datetime


class ClusterResponse(ResponseModel):
    """`runtime` is the requested runtime, `resolved_runtime` the one in use. A `shared` cluster belongs to
    another organization, which shares it with the caller's.
    """

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
    created_at: datetime
    status: Literal["active", "deleting"]
    shared: bool = False
    total_cpu_cores: float
    total_ram_gb: float
    total_gpu_count: int
    capacity: Amounts
    allocated: Amounts
    available: Amounts
    node_count: int
    nodes: list[NodeResponse] | None


_NODE_AS_STORED = same_named(Node, NodeResponse.model_fields)
_CLUSTER_AS_STORED = same_named(Cluster, ClusterResponse.model_fields)


def runtime_note(choice: str, resolved: str) -> str:
    """One line about the runtime of the cluster."""
    if choice == AUTO and resolved == "simulated":
        others = " or ".join(honoured_by({"command"}))
        return f"simulated: no Docker engine answered, so no workload runs; choose {others} for work"
    kind = RUNTIMES.get(resolved)
    note = resolved if kind is None else f"{resolved}: {kind.note}"
    return f"auto, {note}" if choice == AUTO else note


def capacity_of(node: Node) -> Resources:
    return Resources(node.cpu_milli, node.ram_mib, node.gpu_count * WHOLE_GPU)


def allocated_on(node: Node, gpus: Sequence[NodeGpu]) -> Resources:
    return Resources(node.used_cpu_milli, node.used_ram_mib, sum(gpu.used_milli for gpu in gpus))


def node_answer(node: Node, gpus: Sequence[NodeGpu]) -> NodeResponse:
    capacity, allocated = capacity_of(node), allocated_on(node, gpus)
    return NodeResponse(
        **{name: getattr(node, name) for name in _NODE_AS_STORED},
        cpu_cores=capacity.cpu_cores,
        ram_gb=capacity.ram_gb,
        status=_status(node),
        capacity=Amounts.of(capacity),
        allocated=Amounts.of(allocated),
        available=Amounts.of(capacity - allocated),
        shrinking_to=_shrinking_to(node),
        gpus=[GpuResponse(index=gpu.gpu_index, used=gpu.used_milli / WHOLE_GPU) for gpu in gpus],
    )


def cluster_answer(
    cluster: Cluster,
    nodes: Sequence[Node],
    gpus: Mapping[int, Sequence[NodeGpu]],
    *,
    with_nodes: bool = True,
) -> ClusterResponse:
    """The cluster with sums over its nodes. `gpus` are the devices by node id."""
    capacity = sum((capacity_of(node) for node in nodes), Resources())
    allocated = sum((allocated_on(node, gpus.get(node.id, ())) for node in nodes), Resources())
    return ClusterResponse(
        **{name: getattr(cluster, name) for name in _CLUSTER_AS_STORED},
        runtime_note=runtime_note(cluster.runtime, cluster.resolved_runtime),
        status="active" if cluster.deleting_at is None else "deleting",
        total_cpu_cores=capacity.cpu_cores,
        total_ram_gb=capacity.ram_gb,
        total_gpu_count=sum(node.gpu_count for node in nodes),
        capacity=Amounts.of(capacity),
        allocated=Amounts.of(allocated),
        available=Amounts.of(capacity - allocated),
        node_count=len(nodes),
        nodes=[node_answer(node, gpus.get(node.id, ())) for node in nodes] if with_nodes else None,
    )


def as_guest(answer: ClusterResponse) -> ClusterResponse:
    """The view of an organization with a share: without the owner's engine endpoints."""
    nodes = None if answer.nodes is None else [node_as_guest(node) for node in answer.nodes]
    return answer.model_copy(update={"shared": True, "nodes": nodes})


def node_as_guest(node: NodeResponse) -> NodeResponse:
    return node.model_copy(update={"engine_endpoint": None})


def _status(node: Node) -> NodeStatus:
    if node.deleting:
        return "deleting"
    if node.draining:
        return "draining"
    if _shrinking_to(node) is not None:
        return "shrinking"
    return "cordoned" if node.cordoned else "ready"


def _shrinking_to(node: Node) -> Amounts | None:
    if node.target_cpu_milli is None and node.target_ram_mib is None and node.target_gpu_count is None:
        return None
    return Amounts.of(
        Resources(
            node.cpu_milli if node.target_cpu_milli is None else node.target_cpu_milli,
            node.ram_mib if node.target_ram_mib is None else node.target_ram_mib,
            (node.gpu_count if node.target_gpu_count is None else node.target_gpu_count) * WHOLE_GPU,
        )
    )
