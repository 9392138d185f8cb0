"""`hypervisor cluster`: clusters and their nodes."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hypervisor.cli.commands import cluster_fragmentation, cluster_sharing
from hypervisor.cli.commands.node_flags import parse_node
from hypervisor.cli.core import resolve
from hypervisor.cli.core.command_group import make_group
from hypervisor.cli.core.formatting import amounts, deletion, mapping
from hypervisor.cli.core.key_values import parse_pairs
from hypervisor.cli.core.output import facts, table
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Cluster, Node

app = make_group("Clusters: what there is to run on.")
app.command()(cluster_fragmentation.fragmentation)
app.command()(cluster_fragmentation.consolidation)
app.command()(cluster_fragmentation.move)
for command in (
    cluster_sharing.share,
    cluster_sharing.shares,
    cluster_sharing.accept,
    cluster_sharing.decline,
    cluster_sharing.unshare,
):
    app.command()(command)

Wanted = Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id.")]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name or id.")]
Force = Annotated[bool, typer.Option("--force", help="Stop what is in the way, by the preemption rules.")]
Cpu = Annotated[float | None, typer.Option("--cpu", help="CPU cores.")]
Ram = Annotated[float | None, typer.Option("--ram", help="RAM in GB.")]
Gpu = Annotated[int | None, typer.Option("--gpu", help="GPUs.")]
GpuModel = Annotated[str | None, typer.Option("--gpu-model", help="What they are, such as A100.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="Node label; repeatable.")
]
Placement = Annotated[str | None, typer.Option(help="fgd (default), fill, bestfit or spread.")]
Improve = Annotated[
    int | None,
    typer.Option(
        metavar="STEPS", help="Search so long after a pass for an arrangement that places more; 0: do not."
    ),
]
Packer = Annotated[
    str | None,
    typer.Option(help="Who searches: search (default), or exact, which lets a solver go on where it ends."),
]
Preemption = Annotated[
    bool | None, typer.Option("--preemption/--no-preemption", help="Whether higher priority may evict lower.")
]
MinRuntime = Annotated[
    int | None, typer.Option("--min-runtime", help="Seconds that each run is safe from preemption.")
]


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME")],
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
            help="One node, or count=K equal ones; also gpu=, model=, engine=, label.KEY=. Repeatable.",
        ),
    ] = None,
    runtime: Annotated[str | None, typer.Option(help="auto, docker, process or simulated.")] = None,
    placement: Placement = None,
    improve: Improve = None,
    packer: Packer = None,
    preemption: Preemption = None,
    min_runtime: MinRuntime = None,
) -> None:
    """Make a cluster: of one node with these totals, or of nodes."""
    session = Session.of(context)
    totals = _totals(cpu, ram, gpu, gpu_model)
    if bool(node) == bool(totals):
        raise typer.BadParameter(
            "give either --cpu and --ram (one node of that size), or --node for each node"
        )
    fields: dict[str, Any] = {
        "organization_id": resolve.organization_id(session),
        "runtime": runtime,
        "placement": placement,
        "improvement_steps": improve,
        "packer": packer,
        "preemption": preemption,
        "min_runtime_seconds": min_runtime,
        "labels": parse_pairs(label),
        "nodes": [parse_node(text) for text in node] if node else None,
        **totals,
    }
    made = session.client.clusters.create(name, _given(fields))
    session.show(made, f"Cluster {made['name']} is made (id {made['id']}): {amounts(made['capacity'])}.")
    session.note(made.get("runtime_note") or f"Runtime: {made.get('resolved_runtime', made['runtime'])}.")


@app.command("list")
def list_all(context: typer.Context) -> None:
    """Clusters, with what is taken and what is free."""
    session = Session.of(context)
    found = session.client.clusters.all(organization_id=resolve.organization_id(session))
    columns = [">id", "name", "runtime", ">nodes", "capacity", "allocated", "available"]
    rows = [
        (
            each["id"],
            each["name"],
            each.get("resolved_runtime", each["runtime"]),
            each.get("node_count"),
            amounts(each["capacity"]),
            amounts(each["allocated"]),
            amounts(each["available"]),
        )
        for each in found
    ]
    session.show(found, table(columns, rows))


@app.command()
def show(context: typer.Context, cluster: Wanted) -> None:
    """One cluster and its nodes."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    session.show(found, _facts(found), _nodes_table(found.get("nodes", [])))


@app.command()
def update(
    context: typer.Context,
    cluster: Wanted,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    cpu: Cpu = None,
    ram: Ram = None,
    gpu: Gpu = None,
    placement: Placement = None,
    improve: Improve = None,
    packer: Packer = None,
    preemption: Preemption = None,
    min_runtime: MinRuntime = None,
    force: Force = False,
) -> None:
    """Change its settings; totals only where it has one node."""
    session = Session.of(context)
    fields = {
        "name": name,
        "placement": placement,
        "improvement_steps": improve,
        "packer": packer,
        "preemption": preemption,
        "min_runtime_seconds": min_runtime,
        **_totals(cpu, ram, gpu, None),
    }
    found = resolve.cluster(session, cluster)
    changed = session.client.clusters.update(found["id"], _given(fields), force=force)
    session.show(changed, _facts(changed))


@app.command()
def delete(context: typer.Context, cluster: Wanted, force: Force = False) -> None:
    """Delete it; refused while deployments live there, unless --force."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    gone = session.client.clusters.delete(found["id"], force=force)
    session.show({"id": found["id"], "deleted": gone}, f"Cluster {found['name']} {deletion(gone)}.")


@app.command()
def nodes(context: typer.Context, cluster: Wanted) -> None:
    """The nodes of a cluster."""
    session = Session.of(context)
    found = session.client.clusters.nodes(resolve.cluster(session, cluster)["id"])
    session.show(found, _nodes_table(found))


@app.command("add-node")
def add_node(
    context: typer.Context,
    cluster: Wanted,
    name: Annotated[str, typer.Argument(metavar="NAME")],
    cpu: Annotated[float, typer.Option("--cpu", help="CPU cores.")],
    ram: Annotated[float, typer.Option("--ram", help="RAM in GB.")],
    gpu: Gpu = None,
    gpu_model: GpuModel = None,
    label: Labels = None,
    engine: Annotated[
        str | None, typer.Option(help="Its own container engine, such as tcp://host:2375.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, help="So many equal nodes: NAME-1, NAME-2, ...")] = None,
) -> None:
    """Add a node, or several equal ones."""
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
    answer = session.client.clusters.add_node(found["id"], _given(fields))
    session.show(answer, f"{found['name']} has grown by {name}{f' ({count} nodes)' if count else ''}.")


@app.command("remove-node")
def remove_node(context: typer.Context, cluster: Wanted, node: NodeName, force: Force = False) -> None:
    """Take a node out of its cluster."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    leaving = resolve.node(found, node)
    gone = session.client.clusters.remove_node(found["id"], leaving["id"], force=force)
    session.show({"id": leaving["id"], "deleted": gone}, f"Node {leaving['name']} {deletion(gone)}.")


@app.command()
def cordon(context: typer.Context, cluster: Wanted, node: NodeName) -> None:
    """Nothing new starts on the node; what runs goes on."""
    _node_action(context, cluster, node, "cordon")


@app.command()
def uncordon(context: typer.Context, cluster: Wanted, node: NodeName) -> None:
    """Let work start on the node again."""
    _node_action(context, cluster, node, "uncordon")


@app.command()
def drain(context: typer.Context, cluster: Wanted, node: NodeName) -> None:
    """Cordon the node and send what runs there back to the queue."""
    _node_action(context, cluster, node, "drain")


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
            ("Placement", cluster.get("placement")),
            ("Improved", _improved(cluster)),
            ("Preemption", "on" if cluster.get("preemption") else "off"),
            ("Safe for", f"{cluster['min_runtime_seconds']} s" if cluster.get("min_runtime_seconds") else ""),
            ("Capacity", amounts(cluster["capacity"])),
            ("Allocated", amounts(cluster["allocated"])),
            ("Available", amounts(cluster["available"])),
        ]
    )


def _improved(cluster: Cluster) -> str:
    steps, packer = cluster.get("improvement_steps", 0), cluster.get("packer", "search")
    solver = ", then by a solver" if packer == "exact" else ""
    return f"by up to {steps:,} steps a pass{solver}" if steps else ""


def _nodes_table(nodes: list[Node]) -> Any:
    columns = [">id", "node", "status", "capacity", "allocated", "available", "gpu model", "labels"]
    rows = [
        (
            each["id"],
            each["name"],
            each["status"],
            amounts(each["capacity"]),
            amounts(each["allocated"]),
            amounts(each["available"]),
            each.get("gpu_model"),
            mapping(each.get("labels")),
        )
        for each in nodes
    ]
    return table(columns, rows)


def _totals(cpu: float | None, ram: float | None, gpu: int | None, gpu_model: str | None) -> dict[str, Any]:
    return _given(
        {"total_cpu_cores": cpu, "total_ram_gb": ram, "total_gpu_count": gpu, "gpu_model": gpu_model}
    )


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what was not said: the server knows the defaults."""
    return {name: value for name, value in fields.items() if value is not None}
