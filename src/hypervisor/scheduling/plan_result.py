"""The result of `plan()`: placements, evictions, nominations, and a reason for each deployment that waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.snapshots.snapshot import Nomination


class ReasonCode(StrEnum):
    """Why a deployment waits. The first code that applies is the reason."""

    CLUSTER_HAS_NO_NODES = "cluster_has_no_nodes"
    NO_SCHEDULABLE_NODE = "no_schedulable_node"
    NO_ROOM_ON_DISK = "no_room_on_disk"
    NODE_SELECTOR_MATCHES_NOTHING = "node_selector_matches_nothing"
    GPU_MODEL_MATCHES_NOTHING = "gpu_model_matches_nothing"
    LARGER_THAN_EVERY_NODE = "larger_than_every_node"
    QUOTA_LIMIT = "quota_limit"
    GANG_LARGER_THAN_CLUSTER = "gang_larger_than_cluster"
    WAITING_FOR_VICTIMS = "waiting_for_victims"
    RESERVED_FOR_ANOTHER = "reserved_for_another"
    GANG_INCOMPLETE = "gang_incomplete"
    INSUFFICIENT_GPU = "insufficient_gpu"
    INSUFFICIENT_RAM = "insufficient_ram"
    INSUFFICIENT_CPU = "insufficient_cpu"
    FRAGMENTED = "fragmented"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a deployment was not placed.

    `sentence` is for people. `shortfall` is the exact amount missing on the nearest node, the node with the
    smallest shortfall; `nearest_node` is its name. `suggestion` is the smallest change that would let it
    start.
    """

    code: ReasonCode
    sentence: str
    shortfall: Resources = field(default_factory=Resources)
    nearest_node: str | None = None
    suggestion: str = ""

    def as_data(self) -> dict[str, object]:
        """The reason as JSON-ready data, in API units."""
        return {
            "code": self.code.value,
            "sentence": self.sentence,
            "shortfall": {
                "cpu_cores": self.shortfall.cpu_cores,
                "ram_gb": self.shortfall.ram_gb,
                "gpu_count": self.shortfall.gpu_count,
            },
            "nearest_node": self.nearest_node,
            "suggestion": self.suggestion,
        }


@dataclass(frozen=True, slots=True)
class Placement:
    """Start this replica of a deployment on this node now; the capacity is free."""

    deployment_id: int
    node_id: int
    gpu_indices: tuple[int, ...]
    replica: int = 0


class PreemptionRule(StrEnum):
    """Why an eviction was legal; see `preemption/legality.py`."""

    PRIORITY = "priority"
    RECLAIM = "reclaim"
    FAIR_SHARE = "fair_share"


@dataclass(frozen=True, slots=True)
class Eviction:
    """Stop this allocation so that `preemptor_id` can run.

    `lost_work` is in GPU-seconds, for work without GPUs in CPU-seconds. The priorities are the compared ones;
    they include inherited priority.
    """

    allocation_id: int
    deployment_id: int
    node_id: int
    preemptor_id: int
    lost_work: float
    rule: PreemptionRule
    preemptor_priority: int
    victim_priority: int


@dataclass(frozen=True, slots=True)
class Reprieved:
    """A lower deployment on the node that was not evicted, and why; for the receipt."""

    deployment_id: int
    why: str


@dataclass(frozen=True, slots=True)
class Unplaced:
    deployment_id: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole decision of one pass.

    Placements are in queue order. Every eviction's preemptor has an entry in `nominations`. `nominations`
    also has earlier nominations whose victims have not ended; a stored nomination that is not in it must be
    deleted. `reprieved` is keyed by preemptor. `unplaced` has every pending deployment that is not in
    `placements`, nominated ones included, in queue order; deployments of the same shape and priority share
    one Reason object.
    """

    placements: tuple[Placement, ...] = ()
    evictions: tuple[Eviction, ...] = ()
    nominations: tuple[Nomination, ...] = ()
    unplaced: Sequence[Unplaced] = ()
    reprieved: Mapping[int, tuple[Reprieved, ...]] = field(default_factory=dict)
