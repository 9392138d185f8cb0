"""Resolution of the names and ids on the command line."""

from __future__ import annotations

from typing import Any

from hypervisor.cli.core.failures import CommandFailed
from hypervisor.cli.core.references import parse_id
from hypervisor.cli.core.session import Session
from hypervisor.client.models import Cluster, Deployment, Node, Organization
from hypervisor.client.transport import Params


def organization_id(session: Session) -> int | None:
    """The id of the organization in --org; None without --org.

    The server then uses the caller's only organization.
    """
    name = session.options.organization
    return None if name is None else organization(session, name)["id"]


def organization(session: Session, name: str | None) -> Organization:
    """The organization by name or id; for None, the only organization of the caller.

    Raises CommandFailed when there is no match or no single organization. This holds for all functions here.
    """
    organizations = session.client.organizations.all()
    if name is not None:
        found: Organization = _choose(organizations, name, "organization")
        return found
    if len(organizations) == 1:
        return organizations[0]
    if organizations:
        names = ", ".join(candidate["name"] for candidate in organizations)
        raise CommandFailed(f"name an organization: {names}")
    raise CommandFailed(
        "you have no organization yet: create one with `hypervisor org create NAME`, "
        "or join one with `hypervisor org join CODE`"
    )


def other_organization_id(session: Session, name: str) -> int:
    """The id of an organization that the caller need not belong to: an id, or the name of a known one."""
    if (id_ := parse_id(name)) is not None:
        return id_
    for candidate in session.client.organizations.all():
        if candidate["name"].casefold() == name.casefold():
            return candidate["id"]
    raise CommandFailed(
        f"you do not belong to an organization {name!r}: write the id of the other organization, "
        "which its members see in `hypervisor org list`"
    )


def cluster(session: Session, name: str) -> Cluster:
    """The cluster by id or name."""
    if (id_ := parse_id(name)) is not None:
        return session.client.clusters.get(id_)
    found: Cluster = _choose(
        session.client.clusters.all(organization_id=organization_id(session)), name, "cluster"
    )
    return found


def node(cluster: Cluster, name: str) -> Node:
    """A node of the cluster by name or id."""
    found: Node = _choose(cluster.get("nodes", []), name, "node")
    return found


def deployment(session: Session, name: str) -> Deployment:
    """The deployment by id, else the newest with that name."""
    if (id_ := parse_id(name)) is not None:
        return session.client.deployments.get(id_)
    filters: Params = {"name": name, "limit": 1, "organization_id": organization_id(session)}
    found = session.client.deployments.find(filters, limit=1)
    if not found:
        raise CommandFailed(f"there is no deployment {name!r} (list all with `hypervisor ps -a`)")
    return found[0]


def member_id(session: Session, organization_id: int, name: str) -> int:
    """The user id of a member, by username, e-mail address or id."""
    for member in session.client.organizations.members(organization_id):
        if name.casefold() in (
            str(member["user_id"]),
            member["username"].casefold(),
            member.get("email", "").casefold(),
        ):
            return member["user_id"]
    raise CommandFailed(f"there is no member {name!r} (list them with `hypervisor org members`)")


def _choose(candidates: list[Any], name: str, kind: str) -> Any:
    for candidate in candidates:
        if candidate["name"].casefold() == name.casefold():
            return candidate
    for candidate in candidates:
        if str(candidate["id"]) == name:
            return candidate
    known = ", ".join(candidate["name"] for candidate in candidates) or "none"
    raise CommandFailed(f"there is no {kind} {name!r}; known: {known}")
