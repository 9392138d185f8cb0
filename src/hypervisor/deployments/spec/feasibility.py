"""Whether a cluster could ever run a request: its runtime has what it needs, some node is large enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hypervisor.clusters.repository import Capacity
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.errors import Invalid
from hypervisor.kernel.resources import Resources
from hypervisor.runtimes.honours import HONOURS, OPTIONAL_FIELDS, honoured_by
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.builder import SnapshotBuilder
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import NodeTable, Shape
from hypervisor.scheduling.snapshots.wording import listed
from hypervisor.store.tables import Cluster, Deployment


class ClusterLimits:
    """What one cluster can take at all, by the capacity of its nodes (never by what is free on them).

    `nodes` are those that stay; one that is being made smaller counts with its future size.
    """

    def __init__(self, cluster: Cluster, nodes: Sequence[Capacity]) -> None:
        self._cluster = cluster
        self._nodes = _table(nodes)
        self._eligibility = Eligibility(self._nodes)
        self._known: dict[tuple[Shape, int], Reason | None] = {}

    def check(self, shape: Shape, replicas: int = 1) -> None:
        """Raises Invalid with the reason for what the empty cluster could never take, all replicas together.

        A cluster without nodes takes everything: its deployments wait for the first node.
        """
        key = (shape, replicas)
        if key not in self._known:
            self._known[key] = infeasibility(self._nodes, self._eligibility, shape, replicas)
        reason = self._known[key]
        if reason is None or reason.code is ReasonCode.CLUSTER_HAS_NO_NODES:
            return
        suggestion = f" To run it here, {reason.suggestion}." if reason.suggestion else ""
        raise Invalid(
            reason.code.value,
            f"The cluster {self._cluster.name!r} can never run this: {reason.sentence}.{suggestion}",
            extra={"reason": reason.as_data()},
        )

    def check_runtime(self, values: Mapping[str, object], given: Collection[str] = OPTIONAL_FIELDS) -> None:
        """Check the runtime's declaration against `values`, which are by field (`OPTIONAL_FIELDS`).

        Raises Invalid where a field is missing that the runtime needs, or where one of the `given` fields is
        not honoured.
        """
        runtime, name = self._cluster.resolved_runtime, self._cluster.name
        honours = HONOURS[runtime]
        for needed, hint in honours.needs.items():
            if not values[needed]:
                raise Invalid(
                    f"{needed}_required", f"The cluster {name!r} has the runtime {runtime}: {hint}."
                )
        refused = [one for one in OPTIONAL_FIELDS if one in given and values[one]]
        refused = [one for one in refused if one not in honours.accepted]
        if refused:
            raise Invalid(
                "field_not_honoured",
                f"The cluster {name!r} has the runtime {runtime}, which does not honour {listed(refused)}: "
                f"{_instead(refused)}.",
                extra={"fields": refused, "runtime": runtime},
            )


def optional_values(source: DeploymentCreate | Deployment) -> dict[str, object]:
    """The fields that a runtime may lack, of a request or a row."""
    return {name: getattr(source, name) for name in OPTIONAL_FIELDS}


def _instead(refused: Sequence[str]) -> str:
    what = "it" if len(refused) == 1 else "them"
    others = honoured_by(set(refused))
    return f"leave {what} out" + (
        f", or use a cluster with the runtime {' or '.join(others)}" if others else ""
    )


def shape_of(required: Resources, limits: Mapping[str, Any] | None) -> Shape:
    """The request as the scheduler sees it; `limits` as in `Deployment.placement_limits`."""
    wanted = limits or {}
    return Shape(
        required.cpu_milli,
        required.ram_mib,
        required.gpu_milli,
        tuple(sorted(wanted.get("gpu_models", ()))),
        tuple(sorted(wanted.get("node_selector", {}).items())),
    )


def placement_limits(gpu_models: Sequence[str], node_selector: Mapping[str, str]) -> dict[str, Any] | None:
    """What limits the choice of nodes, as it is stored; None where nothing does."""
    limits: dict[str, Any] = {}
    if gpu_models:
        limits["gpu_models"] = sorted(gpu_models)
    if node_selector:
        limits["node_selector"] = dict(sorted(node_selector.items()))
    return limits or None


def _table(nodes: Sequence[Capacity]) -> NodeTable:
    builder = SnapshotBuilder(0.0)
    for node in nodes:
        builder.add_node(
            node.id,
            cpu_milli=_future(node.cpu_milli, node.target_cpu_milli),
            ram_mib=_future(node.ram_mib, node.target_ram_mib),
            gpu_count=_future(node.gpu_count, node.target_gpu_count),
            name=node.name,
            gpu_model=node.gpu_model,
            labels=node.labels,
        )
    return builder.build().nodes


def _future(capacity: int, target: int | None) -> int:
    return capacity if target is None else min(capacity, target)
