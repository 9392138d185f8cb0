"""Feasibility of a request on a cluster: its runtime honours the fields, and some node is large enough."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from hypervisor.clusters.capacity_table import capacity_table
from hypervisor.clusters.repository import Capacity
from hypervisor.deployments.schemas.requests import DeploymentCreate
from hypervisor.errors import Invalid
from hypervisor.runtimes.kinds import OPTIONAL_FIELDS, RUNTIMES, honoured_by
from hypervisor.scheduling.explanation.infeasibility import infeasibility
from hypervisor.scheduling.plan_result import Reason, ReasonCode
from hypervisor.scheduling.snapshots.requests import Eligibility
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.scheduling.snapshots.wording import listed
from hypervisor.store.tables import Cluster, Deployment


class ClusterLimits:
    """The limits of one cluster by the capacity of its nodes; free capacity plays no role.

    `nodes` excludes nodes that are being removed. A node that is being made smaller has its target size.
    """

    def __init__(self, cluster: Cluster, nodes: Sequence[Capacity]) -> None:
        self._cluster = cluster
        self._nodes = capacity_table(nodes)
        self._eligibility = Eligibility(self._nodes)
        self._cache: dict[tuple[Shape, int], Reason | None] = {}

    def check(self, shape: Shape, replicas: int = 1) -> None:
        """Raises Invalid with the reason when even the empty cluster could not run all replicas together.

        A cluster without nodes accepts everything: its deployments wait for the first node.
        """
        key = (shape, replicas)
        if key not in self._cache:
            self._cache[key] = infeasibility(self._nodes, self._eligibility, shape, replicas)
        reason = self._cache[key]
        if reason is None or reason.code is ReasonCode.CLUSTER_HAS_NO_NODES:
            return
        suggestion = f" To run it here, {reason.suggestion}." if reason.suggestion else ""
        raise Invalid(
            reason.code.value,
            f"The cluster {self._cluster.name!r} can never run this: {reason.sentence}.{suggestion}",
            extra={"reason": reason.as_data()},
        )

    def check_runtime(self, values: Mapping[str, object], given: Collection[str] = OPTIONAL_FIELDS) -> None:
        """Check values of `OPTIONAL_FIELDS` against the declaration of the runtime.

        Raises Invalid when the runtime does not honour one of the `given` fields, or needs a missing field.
        """
        runtime, name = self._cluster.resolved_runtime, self._cluster.name
        kind = RUNTIMES[runtime]
        requested = [field for field in OPTIONAL_FIELDS if field in given and values[field]]
        refused = [field for field in requested if field not in kind.accepted]
        if refused:
            raise Invalid(
                "field_not_honoured",
                f"The cluster {name!r} has the runtime {runtime}, which does not honour {listed(refused)}: "
                f"{_instead(refused)}.",
                extra={"fields": refused, "runtime": runtime},
            )
        for needed, hint in kind.needs.items():
            if not values[needed]:
                raise Invalid(
                    f"{needed}_required", f"The cluster {name!r} has the runtime {runtime}: {hint}."
                )


def optional_values(source: DeploymentCreate | Deployment) -> dict[str, object]:
    """The values of `OPTIONAL_FIELDS` in a request or a row."""
    return {name: getattr(source, name) for name in OPTIONAL_FIELDS}


def _instead(refused: Sequence[str]) -> str:
    what = "it" if len(refused) == 1 else "them"
    others = honoured_by(set(refused))
    return f"leave {what} out" + (
        f", or use a cluster with the runtime {' or '.join(others)}" if others else ""
    )


def placement_limits(gpu_models: Sequence[str], node_selector: Mapping[str, str]) -> dict[str, Any] | None:
    """The stored form of the limits on the choice of nodes; None without limits."""
    limits: dict[str, Any] = {}
    if gpu_models:
        limits["gpu_models"] = sorted(gpu_models)
    if node_selector:
        limits["node_selector"] = dict(sorted(node_selector.items()))
    return limits or None
