"""`hypervisor cluster share`, `shares`, `accept`, `decline` and `unshare`: shared clusters."""

from __future__ import annotations

from typing import Annotated

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.arguments import ClusterName
from hypervisor.cli.core.formatting import amounts, number
from hypervisor.cli.core.session import Session
from hypervisor.cli.core.tables import table
from hypervisor.client.models import ClusterShare

ClusterId = Annotated[
    int, typer.Argument(metavar="CLUSTER", help="Cluster id, from `hypervisor cluster shares`.")
]
OtherOrganization = Annotated[
    str,
    typer.Argument(
        metavar="ORGANIZATION",
        help="Id of the other organization, or the name of one of yours (`hypervisor org list`).",
    ),
]


def share(
    context: typer.Context,
    cluster: ClusterName,
    to: OtherOrganization,
    cpu: Annotated[float | None, typer.Option("--cpu", help="Guaranteed CPU cores.")] = None,
    ram: Annotated[float | None, typer.Option("--ram", help="Guaranteed RAM in GB.")] = None,
    gpu: Annotated[float | None, typer.Option("--gpu", help="Guaranteed GPUs.")] = None,
    limit_cpu: Annotated[float | None, typer.Option(help="Most CPU cores; default: no limit.")] = None,
    limit_ram: Annotated[float | None, typer.Option(help="Most RAM in GB; default: no limit.")] = None,
    limit_gpu: Annotated[float | None, typer.Option(help="Most GPUs; default: no limit.")] = None,
    weight: Annotated[
        float | None,
        typer.Option(help="Weight in the division of capacity without guarantee, 0.001 to 1000; default 1."),
    ] = None,
) -> None:
    """Offer a part of a cluster to another organization. An admin of that organization accepts it."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    recipient = resolve.other_organization_id(session, to)
    terms = {
        "organization_id": recipient,
        "guaranteed": _bounds(cpu, ram, gpu),
        "limit": _bounds(limit_cpu, limit_ram, limit_gpu),
        "weight": weight,
    }
    offer = session.client.clusters.share(
        found["id"], {name: value for name, value in terms.items() if value is not None}
    )
    session.show(
        offer,
        f"Offered {found['name']} (id {found['id']}) to organization {recipient}: "
        f"{amounts(offer['guaranteed'])} guaranteed.",
    )
    session.note(f"An admin of that organization accepts with: hypervisor cluster accept {found['id']}")


def shares(
    context: typer.Context,
    cluster: Annotated[
        str | None,
        typer.Argument(metavar="CLUSTER", help="Cluster name or id; default: all your clusters."),
    ] = None,
) -> None:
    """List shares and offers, given and received, with their usage."""
    session = Session.of(context)
    cluster_id = resolve.cluster(session, cluster)["id"] if cluster is not None else None
    found = session.client.clusters.shares(cluster_id)
    columns = ["cluster", ">organization", "state", "guaranteed", "limit", ">weight", "used", ">waiting"]
    rows = [
        (
            f"{share['cluster_name']} ({share['cluster_id']})",
            share["organization_id"],
            share["state"],
            amounts(share["guaranteed"]),
            _limit(share),
            number(share["weight"]),
            amounts(share["used"]),
            share["waiting"],
        )
        for share in found
    ]
    drops = ("weight", "waiting", "limit", "used", "guaranteed")
    session.show(found, table(columns, rows, drops=drops))


def accept(context: typer.Context, cluster: ClusterId) -> None:
    """Accept the offer of a cluster for your organization."""
    _answer_offer(context, cluster, accept=True)


def decline(context: typer.Context, cluster: ClusterId) -> None:
    """Decline the offer of a cluster, or return an accepted share."""
    _answer_offer(context, cluster, accept=False)


def unshare(context: typer.Context, cluster: ClusterName, to: OtherOrganization) -> None:
    """Withdraw a share. Deployments of the other organization become preemptible by all others."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    recipient = resolve.other_organization_id(session, to)
    session.client.clusters.unshare(found["id"], recipient)
    session.show(
        {"cluster_id": found["id"], "organization_id": recipient, "state": "withdrawn"},
        f"Withdrew the share of {found['name']} from organization {recipient}.",
    )


def _answer_offer(context: typer.Context, cluster_id: int, *, accept: bool) -> None:
    session = Session.of(context)
    organization = resolve.organization(session, session.options.organization)
    offer = session.client.clusters.answer_offer(cluster_id, organization["id"], accept=accept)
    session.show(
        offer, f"The offer of {offer['cluster_name']} to {organization['name']} is {offer['state']}."
    )


def _bounds(cpu: float | None, ram: float | None, gpu: float | None) -> dict[str, float] | None:
    bounds = {"cpu_cores": cpu, "ram_gb": ram, "gpu_count": gpu}
    return {name: value for name, value in bounds.items() if value is not None} or None


def _limit(share: ClusterShare) -> str:
    limit = share["limit"]
    units = {"cpu_cores": "cores", "ram_gb": "GB", "gpu_count": "GPUs"}
    limits = ((limit.get(name), unit) for name, unit in units.items())
    parts = [f"{number(value)} {unit}" for value, unit in limits if value is not None]
    return ", ".join(parts) or "none"
