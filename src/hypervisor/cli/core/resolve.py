"""From what people type (a name or a number) to ids."""

from __future__ import annotations

from typing import Any

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Cluster, Deployment, Node, Organization
from hypervisor.client.transport import Params


def organization_id(session: Session) -> int | None:
    """The id of --org, None where it was not given (the server then knows, or names the choices)."""
    wanted = session.options.organization
    return None if wanted is None else organization(session, wanted)["id"]


def organization(session: Session, wanted: str | None) -> Organization:
    """By name or id; without one, the only one that the caller belongs to."""
    mine = session.client.organizations.all()
    if wanted is not None:
        found: Organization = _choose(mine, wanted, "organization")
        return found
    if len(mine) == 1:
        return mine[0]
    if mine:
        raise CommandFailed(f"say which organization: {', '.join(each['name'] for each in mine)}")
    raise CommandFailed(
        "you belong to no organization yet: `hypervisor org create NAME` makes one, "
        "`hypervisor org join CODE` enters one"
    )


def cluster(session: Session, wanted: str) -> Cluster:
    """By id or name."""
    if wanted.isdecimal():
        return session.client.clusters.get(int(wanted))
    found: Cluster = _choose(
        session.client.clusters.all(organization_id=organization_id(session)), wanted, "cluster"
    )
    return found


def node(of: Cluster, wanted: str) -> Node:
    found: Node = _choose(of.get("nodes", []), wanted, "node")
    return found


def deployment(session: Session, wanted: str) -> Deployment:
    """By id, else the most recent one of that name."""
    if wanted.isdecimal():
        return session.client.deployments.get(int(wanted))
    filters: Params = {"name": wanted, "limit": 1, "organization_id": organization_id(session)}
    found = session.client.deployments.find(filters, most=1)
    if not found:
        raise CommandFailed(f"no deployment is called {wanted!r} (`hypervisor ps -a` lists them all)")
    return found[0]


def member_id(session: Session, organization_id: int, wanted: str) -> int:
    """A member's user id by username, e-mail address or id."""
    for member in session.client.organizations.members(organization_id):
        if wanted.casefold() in (
            str(member["user_id"]),
            member["username"].casefold(),
            member.get("email", "").casefold(),
        ):
            return member["user_id"]
    raise CommandFailed(f"no member is called {wanted!r} (`hypervisor org members` lists them)")


def _choose(candidates: list[Any], wanted: str, kind: str) -> Any:
    for candidate in candidates:
        if candidate["name"].casefold() == wanted.casefold():
            return candidate
    for candidate in candidates:
        if str(candidate["id"]) == wanted:
            return candidate
    known = ", ".join(candidate["name"] for candidate in candidates) or "none"
    raise CommandFailed(f"no {kind} is called {wanted!r}; there are: {known}")
