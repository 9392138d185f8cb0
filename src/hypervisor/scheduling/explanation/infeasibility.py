"""Infeasible requests: no node of the cluster could ever take them."""

from __future__ import annotations

import numpy as np

from hypervisor.kernel.resources import MILLI, Resources
from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.capacity.replicas import replicas_when_empty
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.requests import Eligibility, selector_mask
from hypervisor.scheduling.snapshots.snapshot import NodeTable, Shape, Snapshot
from hypervisor.scheduling.snapshots.wording import described, listed


def explain_request(snapshot: Snapshot, shape: Shape, replicas: int = 1) -> Reason | None:
    """Why this request can never run on the present cluster, or None if the empty cluster could take it.

    A submit with such a reason is refused. Cordoned nodes count, as they may be uncordoned. A cluster without
    nodes gives CLUSTER_HAS_NO_NODES; a caller may accept that, and the request waits for a node.
    """
    return infeasibility(snapshot.nodes, Eligibility(snapshot.nodes), shape, replicas)


def infeasibility(
    nodes: NodeTable, eligibility: Eligibility, shape: Shape, replicas: int = 1
) -> Reason | None:
    """`explain_request` with the eligibility given, for many shapes."""
    if not len(nodes):
        return Reason(
            ReasonCode.CLUSTER_HAS_NO_NODES,
            "the cluster has no nodes",
            shape.resources,
            suggestion=f"add a node with at least {described(shape.resources)}",
        )
    matching = eligibility.matching(shape)
    if not matching.any():
        return _nothing_matches(nodes, shape)
    request = eligibility.request(0, shape)
    if fits_empty_nodes(nodes, request, matching).any():
        possible = replicas_when_empty(nodes, request, matching) if replicas > 1 else replicas
        return _too_many(shape, replicas, possible) if possible < replicas else None
    gpu = nodes.gpu_count.astype(np.int64) * (1 if request.whole_devices else MILLI)
    distance = shortfall_distance(request, nodes.cpu_milli, nodes.ram_mib, gpu)
    nearest = int(np.where(matching, distance, np.inf).argmin())
    return _larger_than(nodes, shape, nearest)


def _nothing_matches(nodes: NodeTable, shape: Shape) -> Reason:
    if not selector_mask(nodes, shape.node_selector).any():
        selector = listed([f"{label}={value}" for label, value in shape.node_selector])
        return Reason(
            ReasonCode.NODE_SELECTOR_MATCHES_NOTHING,
            f"no node carries {selector}",
            suggestion=f"label a node with {selector}, or change the node selector",
        )
    models = listed(shape.gpu_models, "or")
    there = sorted({model for model in nodes.gpu_model if model})
    return Reason(
        ReasonCode.GPU_MODEL_MATCHES_NOTHING,
        f"no matching node has a GPU of model {models}; the cluster has {listed(there) or 'no GPUs'}",
        suggestion=f"add a node with {models}, or allow another GPU model",
    )


def _too_many(shape: Shape, replicas: int, possible: int) -> Reason:
    fewer = f"{possible} replica" + ("s" if possible > 1 else "")
    return Reason(
        ReasonCode.GANG_LARGER_THAN_CLUSTER,
        f"needs {replicas} replicas of {described(shape.resources)} each at the same time, but the nodes "
        f"that match could take only {possible} of them even if nothing else ran",
        shortfall=shape.resources,
        suggestion=f"request at most {fewer}, or add nodes for {replicas - possible} more",
    )


def _larger_than(nodes: NodeTable, shape: Shape, nearest: int) -> Reason:
    count = int(nodes.gpu_count[nearest])
    capacity = Resources(int(nodes.cpu_milli[nearest]), int(nodes.ram_mib[nearest]), count * MILLI)
    missing = shape.resources.shortfall(capacity)
    name = nodes.name[nearest]
    return Reason(
        ReasonCode.LARGER_THAN_EVERY_NODE,
        f"needs {described(shape.resources)}, more than any matching node has; "
        f"the nearest, {name}, is {described(missing)} too small",
        shortfall=missing,
        nearest_node=name,
        suggestion=f"lower the request by {described(missing)}, or add a node with at least "
        f"{described(shape.resources)}",
    )
