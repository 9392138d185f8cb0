"""The history of a cluster as a workload, read through the public API."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypervisor.cli.core import resolve
from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.formatting import parse_time
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Deployment, Node
from hypervisor.kernel.resources import Resources
from hypervisor.scheduling.policy import Policy
from hypervisor.scheduling.snapshots.snapshot import Shape
from hypervisor.simulation.jobs import Job
from hypervisor.simulation.node_specs import NodeSpec, NodeSpecs
from hypervisor.simulation.protection import Protection
from hypervisor.simulation.readers.workload import ListedWorkload, Workload
from hypervisor.simulation.report.number_format import counted


@dataclass(frozen=True, slots=True)
class RecordedWorkload:
    """A workload with the nodes, the policy and the eviction protection of its cluster."""

    jobs: Workload
    nodes: NodeSpecs
    policy: Policy
    protection: Protection = field(default_factory=Protection)


@dataclass(frozen=True, slots=True)
class _Window:
    """The start of the history, and the names of organizations by id."""

    start: datetime
    organization_names: Mapping[int, str]


def load_history(session: Session, cluster_name: str, days: float, limit: int | None) -> RecordedWorkload:
    """The deployments of the last `days` on a cluster, with its present nodes and policy.

    A deployment that started before the window counts from the start of the window with its remaining time. A
    running deployment has no end. A deployment that never started has no known duration; it is left out, and
    a note reports the number. Raises CommandFailed when no deployment is left.
    """
    cluster = resolve.cluster(session, cluster_name)
    start = datetime.now(UTC) - timedelta(days=days)
    names = {organization["id"]: organization["name"] for organization in session.client.organizations.all()}
    found = session.client.deployments.find({"cluster_id": cluster["id"]})
    window = _Window(start, names)
    relevant = [deployment for deployment in found if _ended_after(deployment, start)]
    jobs = sorted(
        (job for deployment in relevant for job in _job(deployment, window)), key=lambda job: job.arrival
    )
    if not jobs:
        raise CommandFailed(f"nothing ran on {cluster['name']} in the last {days:g} days")
    missing = len(relevant) - len(jobs)
    if missing:
        verb = "is" if missing == 1 else "are"
        session.note(
            f"{counted(missing, 'deployment')} never started and {verb} left out: the duration is unknown."
        )
    numbered = [
        replace(job, id=number, arrival=job.arrival - jobs[0].arrival)
        for number, job in enumerate(jobs[:limit], start=1)
    ]
    nodes = tuple(
        _node(node) for node in session.client.clusters.nodes(cluster["id"]) if not node["cordoned"]
    )
    workload = ListedWorkload(f"{cluster['name']}'s history", tuple(numbered), jobs[0].arrival)
    policy = Policy(
        cluster["placement_policy"],
        cluster["preemption"],
        optimizer_steps=cluster.get("optimizer_steps", 0),
        solver=cluster.get("solver", "search"),
    )
    protection = Protection(
        min_runtime=cluster["min_runtime_seconds"],
        budget=cluster["preemption_budget"],
        window=cluster["preemption_window_seconds"],
        cooldown=cluster["preemption_cooldown_seconds"],
    )
    return RecordedWorkload(workload, nodes, policy, protection)


def _ended_after(deployment: Deployment, start: datetime) -> bool:
    finished = deployment["finished_at"]
    return finished is None or parse_time(finished) > start


def _job(deployment: Deployment, window: _Window) -> Iterator[Job]:
    """The deployment as a job, with its arrival in seconds since the epoch. Empty if it never started."""
    started, finished = deployment["started_at"], deployment["finished_at"]
    if started is None:
        return
    # A deployment with dependencies arrives when it is queued, after its parents.
    arrival = (deployment["queued_at"] if deployment["depends_on"] else None) or deployment["created_at"]
    began = max(parse_time(started), window.start)
    duration = math.inf if finished is None else (parse_time(finished) - began).total_seconds()
    organization_id = deployment["organization_id"]
    yield Job(
        id=0,
        arrival=max(parse_time(arrival), window.start).timestamp(),
        duration=max(0.0, duration),
        shape=_shape(deployment),
        organization=window.organization_names.get(organization_id, f"organization {organization_id}"),
        priority=deployment["priority"],
        preemptible=deployment["preemptible"],
        replicas=deployment.get("replicas", 1),
        spread=deployment.get("replica_placement") == "spread",
        min_runtime=deployment["min_runtime_seconds"],
    )


def _shape(deployment: Deployment) -> Shape:
    amount = Resources.from_edge(
        cpu_cores=deployment["required_cpu_cores"],
        ram_gb=deployment["required_ram_gb"],
        gpu_count=deployment["required_gpu_count"],
    )
    return Shape(
        amount.cpu_milli,
        amount.ram_mib,
        amount.gpu_milli,
        tuple(sorted(deployment["gpu_models"])),
        tuple(sorted(deployment["node_selector"].items())),
    )


def _node(node: Node) -> NodeSpec:
    amount = Resources.from_edge(cpu_cores=node["cpu_cores"], ram_gb=node["ram_gb"], gpu_count=0.0)
    return NodeSpec(
        node["name"],
        amount.cpu_milli,
        amount.ram_mib,
        node["gpu_count"],
        node["gpu_model"],
        tuple(sorted(node["labels"].items())),
    )
