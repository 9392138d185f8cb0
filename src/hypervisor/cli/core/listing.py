"""The first deployments of a list, and the remark that there are more."""

from __future__ import annotations

from hypervisor.client import Client
from hypervisor.client.models import Deployment
from hypervisor.client.states import OCCUPYING, WAITING
from hypervisor.client.transport import Params

MOST_PER_PAGE = 100


def active_deployments(client: Client, filters: Params, limit: int) -> list[Deployment]:
    """At most `limit` active deployments: those that occupy resources, then those that wait, newest first."""
    found = matching_deployments(client, {**filters, "state": list(OCCUPYING)}, limit)
    if len(found) < limit:
        # A deployment that stops or is preempted between the two requests is in both.
        listed = {deployment["id"] for deployment in found}
        waiting = matching_deployments(client, {**filters, "state": list(WAITING)}, limit - len(found))
        found += [deployment for deployment in waiting if deployment["id"] not in listed]
    return found


def matching_deployments(client: Client, filters: Params, limit: int) -> list[Deployment]:
    """At most `limit` deployments, newest first."""
    return client.deployments.find({**filters, "limit": min(limit, MOST_PER_PAGE)}, limit=limit)


def remark_on_more(limit: int) -> str:
    """The remark for a list that was cut to `limit` entries."""
    return f"There are more; these are the first {limit}. List more with --limit."
