"""`hypervisor cluster fragmentation`, `consolidation` and `move`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterName, DeploymentName
from hypervisor.cli.core.formatting import ANOTHER_ORGANIZATION, amounts, number
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import Table, table
from hypervisor.client.scheduler_models import Consolidation, Fragmentation, Move, MovesForRequest


def fragmentation(
    context: typer.Context,
    cluster: ClusterName,
    gpu: Annotated[
        float | None, typer.Option("--gpu", help="GPUs of a request that should fit on a node.")
    ] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="CPU cores of the request.")] = None,
    ram: Annotated[float | None, typer.Option("--ram", help="RAM of the request, in GB.")] = None,
) -> None:
    """Show how much free capacity typical requests can use.

    With a request (--gpu, --cpu, --ram), also show the moves after which the request fits on a node.
    """
    session = Session.of(context)
    cluster_id = resolve.cluster(session, cluster)["id"]
    found = session.client.clusters.fragmentation(cluster_id, gpu_count=gpu, cpu=cpu, ram=ram)
    has_request = (gpu, cpu, ram) != (None, None, None)
    moves = _moves_for_request(found["opening"]) if has_request else ()
    session.show(found, _requests_table(found), _nodes_table(found), *moves)


def consolidation(
    context: typer.Context,
    cluster: ClusterName,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps of the search; default: 100,000, below a second.")
    ] = None,
) -> None:
    """Propose a few moves that would let more queued deployments start. Nothing is moved."""
    session = Session.of(context)
    found = session.client.clusters.consolidation(resolve.cluster(session, cluster)["id"], steps=steps)
    session.show(found, *_proposal(found))


def move(
    context: typer.Context,
    cluster: ClusterName,
    deployment: DeploymentName,
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name or id of the new node.")],
) -> None:
    """Stop a deployment and start it again on another node."""
    session = Session.of(context)
    source = resolve.cluster(session, cluster)
    moving = resolve.deployment(session, deployment)
    started = session.client.clusters.move(source["id"], moving["id"], resolve.node(source, node)["id"])
    session.show(started, _move_line(started))


def _requests_table(found: Fragmentation) -> Table:
    rows = [
        (
            amounts(
                {
                    "cpu_cores": shape["required_cpu_cores"],
                    "ram_gb": shape["required_ram_gb"],
                    "gpu_count": shape["required_gpu_count"],
                }
            ),
            f"{shape['weight']:.0%}",
            shape["fits_now"],
            number(shape["unusable_gpu"]),
        )
        for shape in found["shapes"]
    ]
    return table(["typical request", ">share", ">fit now", ">unusable idle GPU"], rows, drops=("share",))


def _nodes_table(found: Fragmentation) -> Table:
    rows = [
        (
            node["node"],
            number(node["free_cpu_cores"]),
            number(node["free_ram_gb"]),
            node["free_gpus"],
            number(node["idle_gpu"]),
            number(node["expected_unusable_gpu"]),
        )
        for node in found["nodes"]
    ]
    columns = ["node", ">free CPU", ">free GB", ">whole free GPUs", ">idle GPU", ">unusable idle GPU"]
    return table(columns, rows, drops=("idle GPU", "free GB", "free CPU"))


def _moves_for_request(opening: MovesForRequest | None) -> list[Text]:
    if opening is None:
        return [Text("The request does not fit, even after three moves.")]
    if not opening["moves"]:
        return [Text(f"The request fits on {opening['node']} now.")]
    return [Text(f"The request fits on {opening['node']} after:"), *map(_move_line, opening["moves"])]


def _proposal(found: Consolidation) -> list[Text]:
    if not found["starts"]:
        return [Text("No moves were found that let more queued deployments start.")]
    in_turn, swaps = found["moves"][: found["in_turn"]], found["moves"][found["in_turn"] :]
    lines = [Text("Move, one after the other:"), *map(_move_line, in_turn)] if in_turn else []
    if swaps:
        lines += [Text("Then swap these (stop one of them first):"), *map(_move_line, swaps)]
    starts = [
        Text(f"  {start['deployment']['name'] or ANOTHER_ORGANIZATION}: on {start['node']}")
        for start in found["starts"]
    ]
    return [*lines, Text("Then these can start:" if lines else "These can start:"), *starts]


def _move_line(move: Move) -> Text:
    name = move["deployment"]["name"] or ANOTHER_ORGANIZATION
    lost = number(round(move["lost_work_seconds"], 1))
    return Text(f"  {name}: {move['from_node']} -> {move['to_node']} ({lost} GPU- or CPU-seconds lost)")
