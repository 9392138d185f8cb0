"""`hypervisor cluster`: clusters and their nodes."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import typer

from hypervisor.cli.commands import cluster_fragmentation, cluster_sharing
from hypervisor.cli.commands import cluster_settings as settings
from hypervisor.cli.commands.node_flags import parse_node
from hypervisor.cli.core import resolve
from hypervisor.cli.core.command_group import make_group
from hypervisor.cli.core.formatting import amounts, deletion, mapping
from hypervisor.cli.core.key_values import parse_pairs
from hypervisor.cli.core.old_flags import WithOldFlags
from hypervisor.cli.core.output import facts
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import Table, table
from hypervisor.client.models import Cluster, Node
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.snapshots.wording import listed

app = make_group("Create, change and share clusters, and manage their nodes.")


class _WithOldFlags(WithOldFlags):
    old_flags: ClassVar = {
        "--placement": "--placement-policy",
        "--improve": "--optimizer-steps",
        "--packer": "--solver",
    }


ClusterName = Annotated[str, typer.Argument(metavar="CLUSTER", help="Cluster name or id.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Node name or id.")]
Force = Annotated[
    bool, typer.Option("--force", help="Stop deployments that do not fit or that still exist there.")
]
Cpu = Annotated[float | None, typer.Option("--cpu", help="CPU cores.")]
Ram = Annotated[float | None, typer.Option("--ram", help="RAM in GB.")]
Gpu = Annotated[int | None, typer.Option("--gpu", help="Number of GPUs; default 0.")]
GpuModel = Annotated[str | None, typer.Option("--gpu-model", help="GPU model, such as A100.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Node label. Repeatable.")
]
Runtime = Annotated[
    str | None,
    typer.Option(help=f"Runtime: {listed(runtime_choices(), 'or')}; default: the server's DEFAULT_RUNTIME."),
]


@app.command(cls=_WithOldFlags)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the cluster.")],
    cpu: Cpu = None,
    ram: Ram = None,
    gpu: Gpu = None,
    gpu_model: GpuModel = None,
    label: Labels = None,
    node: Annotated[
        list[str] | None,
        typer.Option(
            "--node",
            metavar="name=N,cpu=C,ram=G,...",
            help="A node, or count=K equal nodes; also gpu=, model=, engine=, label.KEY=. Repeatable.",
        ),
    ] = None,
    runtime: Runtime = None,
    placement_policy: settings.NewPlacementPolicy = None,
    optimizer_steps: settings.NewOptimizerSteps = None,
    solver: settings.NewSolver = None,
    preemption: settings.NewPreemption = None,
    min_runtime: settings.NewMinRuntime = None,
    preemption_budget: settings.NewPreemptionBudget = None,
    preemption_window: settings.NewPreemptionWindow = None,
    preemption_cooldown: settings.NewPreemptionCooldown = None,
) -> None:
    """Create a cluster: one node with --cpu and --ram, or a --node for each node."""
    session = Session.of(context)
    totals = _totals(cpu, ram, gpu, gpu_model)
    if bool(node) == bool(totals):
        raise typer.BadParameter(
            "set either --cpu and --ram (one node of that size), or --node for each node"
        )
    fields: dict[str, Any] = {
        "organization_id": resolve.organization_id(session),
        "runtime": runtime,
        "placement_policy": placement_policy,
        "optimizer_steps": optimizer_steps,
        "solver": solver,
        "preemption": preemption,
        "min_runtime_seconds": min_runtime,
        "preemption_budget": preemption_budget,
        "preemption_window_seconds": preemption_window,
        "preemption_cooldown_seconds": preemption_cooldown,
        "labels": parse_pairs(label),
        "nodes": [parse_node(text) for text in node] if node else None,
        **totals,
    }
    created = session.client.clusters.create(name, _set_fields(fields))
    session.show(
        created, f"Created cluster {created['name']} (id {created['id']}): {amounts(created['capacity'])}."
    )
    session.note(
        created.get("runtime_note") or f"Runtime: {created.get('resolved_runtime', created['runtime'])}."
    )


@app.command("list")
def list_all(context: typer.Context) -> None:
    """List clusters with their capacity."""
    session = Session.of(context)
    found = session.client.clusters.all(organization_id=resolve.organization_id(session))
    columns = [">id", "name", "runtime", ">nodes", "capacity", "allocated", "available"]
    rows = [
        (
            cluster["id"],
            cluster["name"],
            cluster.get("resolved_runtime", cluster["runtime"]),
            cluster.get("node_count"),
            amounts(cluster["capacity"]),
            amounts(cluster["allocated"]),
            amounts(cluster["available"]),
        )
        for cluster in found
    ]
    drops = ("allocated", "runtime", "nodes", "available", "capacity")
    session.show(found, table(columns, rows, drops=drops))


@app.command()
def show(context: typer.Context, cluster: ClusterName) -> None:
    """Show a cluster and its nodes."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    session.show(found, _facts(found), _nodes_table(found.get("nodes", [])))


@app.command(cls=_WithOldFlags)
def update(
    context: typer.Context,
    cluster: ClusterName,
    name: Annotated[str | None, typer.Option(help="New name of the cluster.")] = None,
    cpu: Cpu = None,
    ram: Ram = None,
    gpu: Annotated[int | None, typer.Option("--gpu", help="Number of GPUs.")] = None,
    placement_policy: settings.PlacementPolicy = None,
    optimizer_steps: settings.OptimizerSteps = None,
    solver: settings.Solver = None,
    preemption: settings.Preemption = None,
    min_runtime: settings.MinRuntime = None,
    preemption_budget: settings.PreemptionBudget = None,
    preemption_window: settings.PreemptionWindow = None,
    preemption_cooldown: settings.PreemptionCooldown = None,
    force: Force = False,
) -> None:
    """Change the settings of a cluster; the others keep their values.

    --cpu, --ram and --gpu need a cluster with one node.
    """
    session = Session.of(context)
    fields = {
        "name": name,
        "placement_policy": placement_policy,
        "optimizer_steps": optimizer_steps,
        "solver": solver,
        "preemption": preemption,
        "min_runtime_seconds": min_runtime,
        "preemption_budget": preemption_budget,
        "preemption_window_seconds": preemption_window,
        "preemption_cooldown_seconds": preemption_cooldown,
        **_totals(cpu, ram, gpu, None),
    }
    found = resolve.cluster(session, cluster)
    changed = session.client.clusters.update(found["id"], _set_fields(fields), force=force)
    session.show(changed, _facts(changed))


@app.command()
def delete(context: typer.Context, cluster: ClusterName, force: Force = False) -> None:
    """Delete a cluster. Refused while it has deployments that have not ended, unless --force."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    deleted = session.client.clusters.delete(found["id"], force=force)
    session.show({"id": found["id"], "deleted": deleted}, f"Cluster {found['name']} {deletion(deleted)}.")


@app.command()
def nodes(context: typer.Context, cluster: ClusterName) -> None:
    """List the nodes of a cluster."""
    session = Session.of(context)
    found = session.client.clusters.nodes(resolve.cluster(session, cluster)["id"])
    session.show(found, _nodes_table(found))


@app.command("add-node")
def add_node(
    context: typer.Context,
    cluster: ClusterName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the node.")],
    cpu: Annotated[float, typer.Option("--cpu", help="CPU cores.")],
    ram: Annotated[float, typer.Option("--ram", help="RAM in GB.")],
    gpu: Gpu = None,
    gpu_model: GpuModel = None,
    label: Labels = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Address of the node's container engine, such as tcp://host:2375; default: the server's."
        ),
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Number of equal nodes, named NAME-1, NAME-2, ...; default 1.")
    ] = None,
) -> None:
    """Add a node, or several equal nodes."""
    session = Session.of(context)
    fields = {
        "name": name,
        "cpu_cores": cpu,
        "ram_gb": ram,
        "gpu_count": gpu,
        "gpu_model": gpu_model,
        "labels": parse_pairs(label),
        "engine_endpoint": engine,
        "count": count,
    }
    found = resolve.cluster(session, cluster)
    added = session.client.clusters.add_node(found["id"], _set_fields(fields))
    session.show(added, f"Added {name}{f' ({count} nodes)' if count else ''} to {found['name']}.")


@app.command("remove-node")
def remove_node(context: typer.Context, cluster: ClusterName, node: NodeName, force: Force = False) -> None:
    """Remove a node. Refused while deployments run on it or need it, unless --force."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    removed = resolve.node(found, node)
    deleted = session.client.clusters.remove_node(found["id"], removed["id"], force=force)
    session.show({"id": removed["id"], "deleted": deleted}, f"Node {removed['name']} {deletion(deleted)}.")


@app.command()
def cordon(context: typer.Context, cluster: ClusterName, node: NodeName) -> None:
    """Keep new deployments off a node; running ones continue."""
    _node_action(context, cluster, node, "cordon")


@app.command()
def uncordon(context: typer.Context, cluster: ClusterName, node: NodeName) -> None:
    """Admit new deployments to a node again."""
    _node_action(context, cluster, node, "uncordon")


@app.command()
def drain(context: typer.Context, cluster: ClusterName, node: NodeName) -> None:
    """Cordon a node and send its deployments back to the queue."""
    _node_action(context, cluster, node, "drain")


# The help lists the commands in this order.
for command in (
    cluster_fragmentation.fragmentation,
    cluster_fragmentation.consolidation,
    cluster_fragmentation.move,
    cluster_sharing.share,
    cluster_sharing.shares,
    cluster_sharing.accept,
    cluster_sharing.decline,
    cluster_sharing.unshare,
):
    app.command()(command)


def _node_action(context: typer.Context, cluster: str, node: str, action: str) -> None:
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    perform = getattr(session.client.clusters, action)
    changed: Node = perform(found["id"], resolve.node(found, node)["id"])
    session.show(changed, f"Node {changed['name']} is {changed.get('status', action)}.")


def _facts(cluster: Cluster) -> Any:
    return facts(
        [
            ("Cluster", f"{cluster['name']} (id {cluster['id']})"),
            ("Shared", "by another organization" if cluster.get("shared") else ""),
            ("Runtime", cluster.get("runtime_note") or cluster.get("resolved_runtime", cluster["runtime"])),
            *settings.settings_facts(cluster),
            ("Capacity", amounts(cluster["capacity"])),
            ("Allocated", amounts(cluster["allocated"])),
            ("Available", amounts(cluster["available"])),
        ]
    )


def _nodes_table(nodes: list[Node]) -> Table:
    columns = [">id", "node", "status", "capacity", "allocated", "available", "gpu model", "=labels"]
    rows = [
        (
            node["id"],
            node["name"],
            node["status"],
            amounts(node["capacity"]),
            amounts(node["allocated"]),
            amounts(node["available"]),
            node.get("gpu_model"),
            mapping(node.get("labels")),
        )
        for node in nodes
    ]
    return table(columns, rows, drops=("allocated", "gpu model", "capacity", "available"))


def _totals(cpu: float | None, ram: float | None, gpu: int | None, gpu_model: str | None) -> dict[str, Any]:
    return _set_fields(
        {"total_cpu_cores": cpu, "total_ram_gb": ram, "total_gpu_count": gpu, "gpu_model": gpu_model}
    )


def _set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The set fields. The server has the defaults of the others."""
    return {name: value for name, value in fields.items() if value is not None}
