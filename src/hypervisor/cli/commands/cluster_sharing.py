"""`hypervisor cluster share`, `shares`, `accept`, `decline` and `unshare`: clusters between organizations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from hypervisor.cli.core import resolve
from hypervisor.cli.core.formatting import amounts, number
from hypervisor.cli.core.output import table
from hypervisor.cli.core.session import Session
from hypervisor.client.models import ClusterShare

Wanted = Annotated[str, typer.Argument(metavar="CLUSTER", help="Name or id.")]
ClusterId = Annotated[int, typer.Argument(metavar="CLUSTER", help="Its id, as `cluster shares` shows it.")]
OrganizationId = Annotated[int, typer.Argument(metavar="ORGANIZATION", help="Id of the other organization.")]


def share(
    context: typer.Context,
    cluster: Wanted,
    to: OrganizationId,
    cpu: Annotated[float | None, typer.Option("--cpu", help="CPU cores that are guaranteed.")] = None,
    ram: Annotated[float | None, typer.Option("--ram", help="GB of RAM that are guaranteed.")] = None,
    gpu: Annotated[float | None, typer.Option("--gpu", help="GPUs that are guaranteed.")] = None,
    limit_cpu: Annotated[float | None, typer.Option(help="Never more CPU cores than this.")] = None,
    limit_ram: Annotated[float | None, typer.Option(help="Never more GB of RAM than this.")] = None,
    limit_gpu: Annotated[float | None, typer.Option(help="Never more GPUs than this.")] = None,
    weight: Annotated[float | None, typer.Option(help="Part of what nobody is guaranteed.")] = None,
) -> None:
    """Offer a part of the cluster to another organization; one of its admins accepts it."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    terms = {
        "organization_id": to,
        "guaranteed": _bounds(cpu, ram, gpu),
        "limit": _bounds(limit_cpu, limit_ram, limit_gpu),
        "weight": weight,
    }
    made = session.client.clusters.share(found["id"], {k: v for k, v in terms.items() if v is not None})
    session.show(
        made,
        f"{found['name']} (id {found['id']}) is offered to organization {to}: "
        f"{amounts(made['guaranteed'])} guaranteed.",
    )
    session.note(f"One of its admins accepts with: hypervisor cluster accept {found['id']}")


def shares(
    context: typer.Context,
    cluster: Annotated[str | None, typer.Argument(metavar="CLUSTER", help="Name or id; all without.")] = None,
) -> None:
    """Who shares what with whom, and what each uses of it."""
    session = Session.of(context)
    only = resolve.cluster(session, cluster)["id"] if cluster is not None else None
    found = session.client.clusters.shares(only)
    columns = ["cluster", ">organization", "state", "guaranteed", "limit", ">weight", "used", ">waiting"]
    rows = [
        (
            f"{each['cluster_name']} ({each['cluster_id']})",
            each["organization_id"],
            each["state"],
            amounts(each["guaranteed"]),
            _limit(each),
            number(each["weight"]),
            amounts(each["used"]),
            each["waiting"],
        )
        for each in found
    ]
    session.show(found, table(columns, rows))


def accept(context: typer.Context, cluster: ClusterId) -> None:
    """Accept the offer of a cluster for your organization."""
    _answer(context, cluster, accepts=True)


def decline(context: typer.Context, cluster: ClusterId) -> None:
    """Decline the offer of a cluster, or give it back."""
    _answer(context, cluster, accepts=False)


def unshare(context: typer.Context, cluster: Wanted, to: OrganizationId) -> None:
    """Share it no more; what the other organization runs there yields to everybody."""
    session = Session.of(context)
    found = resolve.cluster(session, cluster)
    session.client.clusters.unshare(found["id"], to)
    session.show(
        {"cluster_id": found["id"], "organization_id": to, "state": "withdrawn"},
        f"{found['name']} is not shared with organization {to} any more.",
    )


def _answer(context: typer.Context, cluster_id: int, *, accepts: bool) -> None:
    session = Session.of(context)
    mine = resolve.organization(session, session.options.organization)
    made = session.client.clusters.answer_offer(cluster_id, mine["id"], accepts=accepts)
    session.show(made, f"The offer of {made['cluster_name']} is {made['state']} for {mine['name']}.")


def _bounds(cpu: float | None, ram: float | None, gpu: float | None) -> dict[str, float] | None:
    given = {"cpu_cores": cpu, "ram_gb": ram, "gpu_count": gpu}
    return {name: value for name, value in given.items() if value is not None} or None


def _limit(each: ClusterShare) -> str:
    limit: Any = each["limit"]
    given = {name: value for name, value in limit.items() if value is not None}
    units = {"cpu_cores": "cores", "ram_gb": "GB", "gpu_count": "GPUs"}
    return ", ".join(f"{number(value)} {units[name]}" for name, value in given.items()) or "none"
