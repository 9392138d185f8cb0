"""How the fields of requests become columns of clusters and nodes. See docs/add-a-field.md."""

from __future__ import annotations

from hypervisor.clusters.schemas import ClusterCreate, ClusterUpdate, NodeCreate
from hypervisor.scheduling.policy import DEFAULT_OPTIMIZER_STEPS
from hypervisor.scheduling.repacking.solvers import solver_names
from hypervisor.store.columns import stored_fields
from hypervisor.store.tables import Cluster, Node

SIZES = {
    "total_cpu_cores": "cpu_milli of the only node",
    "total_ram_gb": "ram_mib of the only node",
    "total_gpu_count": "gpu_count of the only node",
    "gpu_model": "gpu_model of the only node",
    "labels": "labels of the only node",
    "nodes": "rows of `nodes`",
}
"""Fields of a cluster that are stored with its nodes, each with its column."""

NODE_CONVERTED = {
    "name": "one row for each name of `NodeCreate.names`",
    "count": "one row for each name of `NodeCreate.names`",
    "cpu_cores": "cpu_milli",
    "ram_gb": "ram_mib",
    "labels": "labels, as a copy for each node",
}
"""Fields of a node that are converted before they are stored, each with its stored form."""

_CLUSTER_FIELDS = stored_fields(Cluster, ClusterCreate.model_fields, SIZES)
_CLUSTER_SETTINGS = stored_fields(Cluster, ClusterUpdate.model_fields, SIZES)
_NODE_FIELDS = stored_fields(Node, NodeCreate.model_fields, NODE_CONVERTED)


def cluster_values(request: ClusterCreate) -> dict[str, object]:
    """The columns of a new cluster whose values are those of the request."""
    values = {name: getattr(request, name) for name in _CLUSTER_FIELDS}
    return values | implied_steps(request, 0)


def implied_steps(request: ClusterCreate | ClusterUpdate, steps: int) -> dict[str, int]:
    """The optimizer steps that a solver implies on a cluster with so many `steps`: with 0 it has no effect.

    Steps that the request sets stay, also 0.
    """
    is_implied = request.solver not in (None, solver_names()[0]) and not steps
    if not is_implied or "optimizer_steps" in request.model_fields_set:
        return {}
    return {"optimizer_steps": DEFAULT_OPTIMIZER_STEPS}


def changed_settings(request: ClusterUpdate) -> dict[str, object]:
    """The columns that an update sets. Null leaves a setting unchanged."""
    values = {name: getattr(request, name) for name in _CLUSTER_SETTINGS}
    return {name: value for name, value in values.items() if value is not None}


def node_values(request: NodeCreate) -> dict[str, object]:
    """The columns of each new node whose values are those of the request."""
    return {name: getattr(request, name) for name in _NODE_FIELDS}
