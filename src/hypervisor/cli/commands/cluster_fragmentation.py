"""`hypervisor cluster fragmentation`, `consolidation` and `move`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from hypervisor.cli.core import resolve
from hypervisor.cli.core.formatting import amounts, number
from hypervisor.cli.core.output import table
from hypervisor.cli.core.session import Session
from hypervisor.client.scheduler_models import Consolidation, Fragmentation, Move, MovesForRequest

_ANOTHERS = "(another organization's)"
Wanted = Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id.")]


def fragmentation(
    context: typer.Context,
    cluster: Wanted,
    gpu: Annotated[
        float | None, typer.Option("--gpu", help="A request to find a place for: its GPUs.")
    ] = None,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Its CPU cores.")] = None,
    ram: Annotated[float | None, typer.Option("--ram", help="Its RAM in GB.")] = None,
) -> None:
    """What the free room is worth to typical requests, and which moves would open a place."""
    session = Session.of(context)
    id_ = resolve.cluster(session, cluster)["id"]
    found = session.client.clusters.fragmentation(id_, gpu_count=gpu, cpu=cpu, ram=ram)
    asked = (gpu, cpu, ram) != (None, None, None)
    session.show(found, _shapes(found), _nodes(found), *(_opening(found["opening"]) if asked else ()))


def consolidation(
    context: typer.Context,
    cluster: Wanted,
    steps: Annotated[int | None, typer.Option(min=1, help="How long to search; 100,000 unless said.")] = None,
) -> None:
    """Which few moves of running work would let more of what waits start. Nothing is moved by asking."""
    session = Session.of(context)
    found = session.client.clusters.consolidation(resolve.cluster(session, cluster)["id"], steps=steps)
    session.show(found, *_proposal(found))


def move(
    context: typer.Context,
    cluster: Wanted,
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="Id or name.")],
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name or id.")],
) -> None:
    """Stop a deployment within its grace and let it go on at another node."""
    session = Session.of(context)
    where = resolve.cluster(session, cluster)
    what = resolve.deployment(session, deployment)
    done = session.client.clusters.move(where["id"], what["id"], resolve.node(where, node)["id"])
    session.show(done, _move(done))


def _shapes(found: Fragmentation) -> Table:
    rows = [
        (
            amounts(
                {
                    "cpu_cores": one["required_cpu_cores"],
                    "ram_gb": one["required_ram_gb"],
                    "gpu_count": one["required_gpu_count"],
                }
            ),
            f"{one['weight']:.0%}",
            one["fits_now"],
            number(one["unusable_gpu"]),
        )
        for one in found["shapes"]
    ]
    return table(["typical request", ">share", ">fits now", ">idle GPU of no use"], rows)


def _nodes(found: Fragmentation) -> Table:
    rows = [
        (
            one["node"],
            number(one["free_cpu_cores"]),
            number(one["free_ram_gb"]),
            one["free_gpus"],
            number(one["idle_gpu"]),
            number(one["expected_unusable_gpu"]),
        )
        for one in found["nodes"]
    ]
    return table(["node", ">CPU", ">GB", ">whole GPUs", ">idle GPU", ">of no use"], rows)


def _opening(opening: MovesForRequest | None) -> list[Text]:
    if opening is None:
        return [Text("No three moves would open a place for it.")]
    if not opening["moves"]:
        return [Text(f"It fits on {opening['node']} as it is.")]
    return [Text(f"A place on {opening['node']} would open by:"), *map(_move, opening["moves"])]


def _proposal(found: Consolidation) -> list[Text]:
    if not found["starts"]:
        return [Text("No moves were found that would let more of what waits start.")]
    in_turn, exchanging = found["moves"][: found["in_turn"]], found["moves"][found["in_turn"] :]
    lines = [Text("Move one after the other:"), *map(_move, in_turn)] if in_turn else []
    if exchanging:
        lines += [Text("Then these change places, so stop one of them first:"), *map(_move, exchanging)]
    starts = [
        Text(f"  {one['deployment']['name'] or _ANOTHERS}: on {one['node']}") for one in found["starts"]
    ]
    return [*lines, Text("Then start:" if lines else "These can start:"), *starts]


def _move(one: Move) -> Text:
    name = one["deployment"]["name"] or _ANOTHERS
    lost = number(round(one["lost_work_seconds"], 1))
    return Text(f"  {name}: {one['from_node']} -> {one['to_node']} ({lost} GPU- or CPU-seconds lost)")
