"""Requests about clusters and nodes."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from hypervisor.api.schema import MAX_ID, Name
from hypervisor.clusters.choices import enum_of, one_of
from hypervisor.clusters.field_types import (
    CpuCores,
    GpuDevices,
    GpuModel,
    Labels,
    PreemptionWindow,
    RamGb,
    Seconds,
    StrictRequest,
)
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.policy import DEFAULT_OPTIMIZER_STEPS
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.scheduling.scoring.registry import policy_names

MAX_NODES_AT_ONCE = 10_000
MAX_OPTIMIZER_STEPS = 1_000_000
"""Takes some seconds in each pass."""
_ENDPOINT = re.compile(
    r"unix:///[^\s?#@]+|tcp://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:[0-9]{1,5})?"
)

OLD_NAMES = {
    "placement": "placement_policy",
    "improvement_steps": "optimizer_steps",
    "packer": "solver",
    "preemption_rest_seconds": "preemption_cooldown_seconds",
}
"""Of the settings of a cluster; see `RequestModel.old_names`."""

Budget = Annotated[
    int,
    Field(
        ge=0,
        le=1000,
        description="After this many preemptions within preemption_window_seconds a deployment is protected "
        "for preemption_cooldown_seconds; 0: never.",
    ),
]
OptimizerSteps = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_OPTIMIZER_STEPS,
        description="Step budget of the optimizer. After a pass that leaves work waiting it searches for an "
        "arrangement that places more; 0: off.",
    ),
]
RuntimeName = Annotated[str, one_of(runtime_choices), Field(json_schema_extra=enum_of(runtime_choices))]
PlacementName = Annotated[
    str,
    one_of(policy_names),
    Field(
        description="Which node is best among those that can take a request.",
        json_schema_extra=enum_of(policy_names),
    ),
]
Solver = Annotated[
    str,
    one_of(solver_names),
    Field(
        description="search: local search only. exact: on small clusters an exact solver continues after the "
        f"search; the server needs the extra `optimal`. It sets {DEFAULT_OPTIMIZER_STEPS} optimizer steps "
        "where none are set.",
        json_schema_extra=enum_of(solver_names),
    ),
]


def _engine_endpoint(text: str) -> str:
    if _ENDPOINT.fullmatch(text) is None:
        raise ValueError("must be unix:///path/to.sock or tcp://host:port")
    return text


EngineEndpoint = Annotated[str, Field(max_length=255), AfterValidator(_engine_endpoint)]


class NodeCreate(StrictRequest):
    """One machine, or `count` equal machines named `name-1` ... `name-<count>`."""

    name: Name
    count: int = Field(default=1, ge=1, le=MAX_NODES_AT_ONCE)
    cpu_cores: CpuCores
    ram_gb: RamGb
    gpu_count: GpuDevices = 0
    gpu_model: GpuModel | None = None
    labels: Labels = Field(default_factory=dict)
    engine_endpoint: EngineEndpoint | None = Field(
        default=None, description="The Docker engine of this machine; default: the server's engine."
    )

    @property
    def names(self) -> list[str]:
        """The names of the nodes to create."""
        if self.count == 1:
            return [self.name]
        return [f"{self.name}-{number}" for number in range(1, self.count + 1)]

    @property
    def resources(self) -> Resources:
        return Resources.from_edge(cpu_cores=self.cpu_cores, ram_gb=self.ram_gb, gpu_count=self.gpu_count)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if len(self.names[-1]) > 100:
            raise ValueError("the names of the nodes would be longer than 100 characters")
        return self


class ClusterCreate(StrictRequest):
    """Give totals for one node named "node-1", or `nodes` with each machine."""

    old_names: ClassVar = OLD_NAMES

    organization_id: int | None = Field(default=None, ge=1, le=MAX_ID)
    name: Name
    runtime: RuntimeName | None = Field(default=None, description="Default: the server's DEFAULT_RUNTIME.")
    placement_policy: PlacementName = "fgd"
    optimizer_steps: OptimizerSteps = 0
    solver: Solver = "search"
    preemption: bool = True
    min_runtime_seconds: Seconds = 0
    preemption_budget: Budget = 5
    preemption_window_seconds: PreemptionWindow = 3600
    preemption_cooldown_seconds: Seconds = 1800
    total_cpu_cores: CpuCores | None = None
    total_ram_gb: RamGb | None = None
    total_gpu_count: GpuDevices | None = None
    gpu_model: GpuModel | None = None
    labels: Labels | None = None
    nodes: list[NodeCreate] | None = Field(default=None, min_length=1, max_length=MAX_NODES_AT_ONCE)

    @model_validator(mode="after")
    def _has_one_kind_of_size(self) -> Self:
        totals = ("total_cpu_cores", "total_ram_gb", "total_gpu_count", "gpu_model", "labels")
        totals_set = [name for name in totals if getattr(self, name) is not None]
        if self.nodes is not None and totals_set:
            raise ValueError(f"give either nodes or {', '.join(totals_set)}, not both")
        if self.nodes is None and (self.total_cpu_cores is None or self.total_ram_gb is None):
            raise ValueError("give total_cpu_cores and total_ram_gb (one node of that size) or nodes")
        _check_names([name for node in self.nodes or () for name in node.names])
        return self

    def all_nodes(self) -> list[NodeCreate]:
        """The given nodes, or the one node of the totals."""
        if self.nodes is not None:
            return self.nodes
        return [
            NodeCreate(
                name="node-1",
                cpu_cores=self.total_cpu_cores or 0,
                ram_gb=self.total_ram_gb or 0,
                gpu_count=self.total_gpu_count or 0,
                gpu_model=self.gpu_model,
                labels=self.labels or {},
            )
        ]


class ClusterUpdate(StrictRequest):
    """Only given fields change. Totals are for clusters with one node."""

    old_names: ClassVar = OLD_NAMES

    name: Name | None = None
    placement_policy: PlacementName | None = None
    optimizer_steps: OptimizerSteps | None = None
    solver: Solver | None = None
    preemption: bool | None = None
    min_runtime_seconds: Seconds | None = None
    preemption_budget: Budget | None = None
    preemption_window_seconds: PreemptionWindow | None = None
    preemption_cooldown_seconds: Seconds | None = None
    total_cpu_cores: CpuCores | None = None
    total_ram_gb: RamGb | None = None
    total_gpu_count: GpuDevices | None = None

    def node_update(self) -> NodeUpdate | None:
        """The change of the only node, None without totals."""
        if self.total_cpu_cores is None and self.total_ram_gb is None and self.total_gpu_count is None:
            return None
        return NodeUpdate(
            cpu_cores=self.total_cpu_cores, ram_gb=self.total_ram_gb, gpu_count=self.total_gpu_count
        )


class NodeUpdate(StrictRequest):
    """Only given fields change. The name is fixed."""

    cpu_cores: CpuCores | None = None
    ram_gb: RamGb | None = None
    gpu_count: GpuDevices | None = None
    gpu_model: GpuModel | None = None
    labels: Labels | None = None


def _check_names(names: list[str]) -> None:
    if len(names) > MAX_NODES_AT_ONCE:
        raise ValueError(f"at most {MAX_NODES_AT_ONCE} nodes at once")
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two nodes would be named {duplicate!r}")
