"""Infeasible requests: no node of the cluster could ever take them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hypervisor.kernel.resources import MILLI, Resources
from hypervisor.scheduling.capacity.feasibility import fits_empty_nodes
from hypervisor.scheduling.capacity.replicas import replicas_when_empty
from hypervisor.scheduling.capacity.shortfall import shortfall_distance
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.requests import Eligibility, model_mask, selector_mask
from hypervisor.scheduling.snapshots.snapshot import Bool, NodeTable, Shape, Snapshot
from hypervisor.scheduling.snapshots.wording import described, listed

_MOST_NAMED = 3


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
    selected = selector_mask(nodes, shape.node_selector)
    if not selected.any():
        return _no_label(nodes, shape)
    models, there = listed(shape.gpu_models, "or"), gpus_by_model(nodes, selected)
    if model_mask(nodes, shape.gpu_models).any():
        selector = _selector(shape.node_selector)
        return Reason(
            ReasonCode.GPU_MODEL_MATCHES_NOTHING,
            f"no node that carries {selector} has a GPU of model {models}; those nodes have {there}",
            suggestion=f"label a node that has {models} with {selector}, or change the node selector",
        )
    unnamed = np.array([not model for model in nodes.gpu_model]) & (nodes.gpu_count > 0)
    fix = (
        f"set the GPU model of the nodes that have {models}" if unnamed.any() else f"add a node with {models}"
    )
    return Reason(
        ReasonCode.GPU_MODEL_MATCHES_NOTHING,
        f"no node has a GPU of model {models}; the cluster has {gpus_by_model(nodes, nodes.gpu_count >= 0)}",
        suggestion=f"{fix}, or allow another GPU model",
    )


def _no_label(nodes: NodeTable, shape: Shape) -> Reason:
    """Name the labels that no node carries; with none of these, that no node carries all."""
    selector = _selector(shape.node_selector)
    absent = [label for label in shape.node_selector if not selector_mask(nodes, (label,)).any()]
    sentence = f"no node carries {_selector(absent) if absent else 'all of ' + selector}"
    if absent:
        values = {key: sorted({labels[key] for labels in nodes.labels if key in labels}) for key, _ in absent}
        found = [f"{key}={value}" for key, of_key in values.items() for value in of_key[:_MOST_NAMED]]
        sentence += f"; there is {listed(found)}" if found else ""
    return Reason(
        ReasonCode.NODE_SELECTOR_MATCHES_NOTHING,
        sentence,
        suggestion=f"label a node with {selector}, or change the node selector",
    )


def _selector(labels: Sequence[tuple[str, str]]) -> str:
    return listed([f"{label}={value}" for label, value in labels])


def gpus_by_model(nodes: NodeTable, among: Bool) -> str:
    """The GPUs of these nodes by model, such as "16 GPUs of model T4 and 8 without a model"."""
    counts: Counter[str] = Counter()
    for row in np.flatnonzero(among).tolist():
        counts[nodes.gpu_model[row] or ""] += int(nodes.gpu_count[row])
    unnamed = counts.pop("", 0)
    parts = [f"{count} of model {model}" for model, count in sorted(counts.items()) if count]
    parts += [f"{unnamed} without a model"] if unnamed else []
    if not parts:
        return "no GPUs"
    number, _, rest = parts[0].partition(" ")
    parts[0] = f"{number} GPU{'' if number == '1' else 's'} {rest}"
    return listed(parts)


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
        f"needs {described(shape.resources)}, more than any one node{_matching(shape)} has; "
        f"the nearest, {name}, is {described(missing)} too small",
        shortfall=missing,
        nearest_node=name,
        suggestion=f"lower the request by {described(missing)}, or add a node with at least "
        f"{described(shape.resources)}",
    )


def _matching(shape: Shape) -> str:
    """The limits on nodes, such as " with zone=a and a GPU of model T4"."""
    limits = [_selector(shape.node_selector)] if shape.node_selector else []
    limits += [f"a GPU of model {listed(shape.gpu_models, 'or')}"] if shape.gpu_models else []
    return f" with {listed(limits)}" if limits else ""
