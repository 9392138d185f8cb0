"""The past of a server's cluster as a workload, through the public API."""

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
    """What ran, on which nodes, how the cluster places it, and whom it keeps from being evicted."""

    jobs: Workload
    fleet: NodeSpecs
    policy: Policy
    protection: Protection = field(default_factory=Protection)


@dataclass(frozen=True, slots=True)
class _Window:
    """Which part of the past counts, and what organizations are called."""

    begin: datetime
    names: Mapping[int, str]


def load_history(session: Session, cluster_name: str, days: float, limit: int | None) -> RecordedWorkload:
    """What a cluster ran in the last `days`, and its nodes and policy as they are now.

    Deployments that had begun before and ran on count from the beginning of that time with what was left of
    them. What still runs has no end. What never started has no known length: it is left out, and a note says
    how many. Raises CommandFailed where nothing is left.
    """
    cluster = resolve.cluster(session, cluster_name)
    begin = datetime.now(UTC) - timedelta(days=days)
    names = {each["id"]: each["name"] for each in session.client.organizations.all()}
    found = session.client.deployments.find({"cluster_id": cluster["id"]})
    window = _Window(begin, names)
    relevant = [each for each in found if _ended_after(each, begin)]
    jobs = sorted((job for each in relevant for job in _job(each, window)), key=lambda job: job.arrival)
    if not jobs:
        raise CommandFailed(f"nothing ran on {cluster['name']} in the last {days:g} days")
    missing = len(relevant) - len(jobs)
    if missing:
        verb = "is" if missing == 1 else "are"
        session.note(
            f"{counted(missing, 'deployment')} never started and {verb} left out: how long, nobody knows."
        )
    numbered = [
        replace(job, id=number, arrival=job.arrival - jobs[0].arrival)
        for number, job in enumerate(jobs[:limit], start=1)
    ]
    nodes = tuple(
        _node(each) for each in session.client.clusters.nodes(cluster["id"]) if not each["cordoned"]
    )
    workload = ListedWorkload(f"{cluster['name']}'s history", tuple(numbered), jobs[0].arrival)
    policy = Policy(
        cluster["placement"],  # type: ignore[arg-type]
        cluster["preemption"],
        optimizer_steps=cluster.get("improvement_steps", 0),
        solver="exact" if cluster.get("packer") == "exact" else "search",
    )
    protection = Protection(
        min_runtime=cluster["min_runtime_seconds"],
        budget=cluster["preemption_budget"],
        window=cluster["preemption_window_seconds"],
        cooldown=cluster["preemption_cooldown_seconds"],
    )
    return RecordedWorkload(workload, nodes, policy, protection)


def _ended_after(deployment: Deployment, begin: datetime) -> bool:
    finished = deployment["finished_at"]
    return finished is None or parse_time(finished) > begin


def _job(deployment: Deployment, window: _Window) -> Iterator[Job]:
    """As a job with its arrival since the epoch; nothing for what never started."""
    started, finished = deployment["started_at"], deployment["finished_at"]
    if started is None:
        return
    # A dependent one could not start before its parents let it into the queue.
    came = (deployment["queued_at"] if deployment["depends_on"] else None) or deployment["created_at"]
    began = max(parse_time(started), window.begin)
    length = math.inf if finished is None else (parse_time(finished) - began).total_seconds()
    organization_id = deployment["organization_id"]
    yield Job(
        id=0,
        arrival=max(parse_time(came), window.begin).timestamp(),
        duration=max(0.0, length),
        shape=_shape(deployment),
        organization=window.names.get(organization_id, f"organization {organization_id}"),
        priority=deployment["priority"],
        preemptible=deployment["preemptible"],
        replicas=deployment.get("replicas", 1),
        spread=deployment.get("placement") == "spread",
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
