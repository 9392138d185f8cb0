"""The forecast for one deployment: `plan()` on the snapshot with the deployment added."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from hypervisor.scheduling.plan import plan
from hypervisor.scheduling.plan_result import Eviction, Plan, Reason, ReasonCode
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.columns import joined, with_organization, with_shape
from hypervisor.scheduling.snapshots.snapshot import Shape, Snapshot

NEVER_CODES = frozenset(
    {
        ReasonCode.NODE_SELECTOR_MATCHES_NOTHING,
        ReasonCode.GPU_MODEL_MATCHES_NOTHING,
        ReasonCode.LARGER_THAN_EVERY_NODE,
        ReasonCode.GANG_LARGER_THAN_CLUSTER,
    }
)
"""Reasons that waiting does not resolve: the cluster or the request must change."""


class ForecastOutcome(StrEnum):
    """What would happen at the next pass."""

    FITS_NOW = "fits_now"
    PREEMPTS = "preempts"
    WAITS = "waits"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class WhatIfRequest:
    """A deployment that is not in the queue. `max_runtime` is in seconds, +inf without a limit."""

    deployment_id: int
    shape: Shape
    priority: int
    created_at: float
    preemptible: bool = True
    protected: bool = False
    replicas: int = 1
    spread: bool = False
    organization_id: int | None = None
    max_runtime: float = math.inf


@dataclass(frozen=True, slots=True)
class Assignment:
    """The node and devices of one replica."""

    node_id: int
    gpu_indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WhatIfResult:
    """The part of a plan about one deployment.

    `assignments` are where it starts, or where it is nominated. `victims` are evicted for it. `position` is
    its 1-based position among the deployments that wait after the pass; None if it starts.
    """

    outcome: ForecastOutcome
    assignments: tuple[Assignment, ...]
    victims: tuple[Eviction, ...]
    position: int | None
    reason: Reason | None
    plan: Plan


def with_request(snapshot: Snapshot, request: WhatIfRequest) -> Snapshot:
    """The snapshot with this deployment in the queue."""
    snapshot, shape = with_shape(snapshot, request.shape)
    snapshot, organization = with_organization(snapshot, request.organization_id)
    builder = SnapshotBuilder(snapshot.now).add_pending(
        request.deployment_id,
        request.shape,
        priority=request.priority,
        created_at=request.created_at,
        preemptible=request.preemptible,
        protected=request.protected,
        replicas=request.replicas,
        spread=request.spread,
        max_runtime=request.max_runtime,
    )
    row = replace(
        builder.build().pending,
        shape=np.array([shape], np.int32),
        organization=np.array([organization], np.int32),
    )
    return replace(snapshot, pending=joined(snapshot.pending, row))


def unused_id(snapshot: Snapshot) -> int:
    """A deployment id above all ids of the snapshot, as a new deployment would get."""
    columns = (snapshot.pending.deployment_id, snapshot.allocations.deployment_id)
    return 1 + max((int(ids.max()) for ids in columns if len(ids)), default=0)


def what_if(snapshot: Snapshot, policy: Policy, deployment_id: int) -> WhatIfResult:
    """What the next pass does with a pending deployment. Raises KeyError if it is not pending."""
    return result_of_plan(plan(snapshot, policy), deployment_id)


def result_of_plan(decided: Plan, deployment_id: int) -> WhatIfResult:
    """The part of the plan about one of its deployments."""
    placed = [one for one in decided.placements if one.deployment_id == deployment_id]
    if placed:
        assignments = tuple(Assignment(one.node_id, one.gpu_indices) for one in placed)
        return WhatIfResult(ForecastOutcome.FITS_NOW, assignments, (), None, None, decided)
    position, reason = _position_of(decided, deployment_id)
    victims = tuple(one for one in decided.evictions if one.preemptor_id == deployment_id)
    kept = [one for one in decided.nominations if one.deployment_id == deployment_id]
    assignments = tuple(Assignment(one.node_id, one.gpu_indices) for one in kept)
    outcome = ForecastOutcome.PREEMPTS if victims else ForecastOutcome.WAITS
    if not assignments and reason.code in NEVER_CODES:
        outcome = ForecastOutcome.NEVER
    return WhatIfResult(outcome, assignments, victims, position, reason, decided)


def _position_of(decided: Plan, deployment_id: int) -> tuple[int, Reason]:
    for index, waiting in enumerate(decided.unplaced):
        if waiting.deployment_id == deployment_id:
            return index + 1, waiting.reason
    raise KeyError(f"deployment {deployment_id} is not in the plan")
