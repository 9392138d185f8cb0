"""Endpoints under /clusters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response, status
from fastapi.responses import JSONResponse

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.pagination import DEFAULT_PAGE, Cursor, Limit, Page, decode_cursor, encode_cursor, page_of
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_ID
from hypervisor.api.services import AppServices, ServicesDep
from hypervisor.clusters import nodes, resizing, service
from hypervisor.clusters.occupants import OccupantsDep
from hypervisor.clusters.policy import (
    ClusterChanger,
    ClusterCreator,
    ClusterLister,
    ClusterReader,
    NodeId,
    visible_organizations,
)
from hypervisor.clusters.responses import ClusterResponse, NodeResponse, node_as_guest
from hypervisor.clusters.schemas import ClusterCreate, ClusterUpdate, NodeCreate, NodeUpdate
from hypervisor.errors import Invalid
from hypervisor.kernel.roles import Role
from hypervisor.organizations.access import resolve_organization
from hypervisor.store.database import WriteSession

router = APIRouter(prefix="/clusters", tags=["Clusters"], route_class=JsonRoute)

Force = Annotated[
    bool, Query(description="Also if running work prevents the change: the work is moved or stopped first.")
]
ACCEPTED: dict[int | str, dict[str, Any]] = {
    202: {"description": "Accepted: running work is being stopped; the deletion follows."}
}


@router.post("", status_code=status.HTTP_201_CREATED, responses=documented(401, 403, 404, 409, 422, 429))
async def create_cluster(body: ClusterCreate, user: ClusterCreator, services: ServicesDep) -> ClusterResponse:
    """Create a cluster, with one node of the given totals or with the given `nodes`."""
    async with services.database.read() as session:
        access = await resolve_organization(session, user, body.organization_id, Role.ADMIN)
    runtime = body.runtime or services.settings.default_runtime
    _check_runtime(services, runtime)
    resolved_runtime = await services.runtimes.resolve(runtime)

    async def work(session: WriteSession) -> ClusterResponse:
        return await service.create(
            session,
            access.organization_id,
            body,
            runtime=runtime,
            resolved_runtime=resolved_runtime,
            now=services.clock.now(),
            actor=user.actor,
        )

    return await services.database.transact(work)


@router.get("", responses=documented(401, 404, 422, 429))
async def list_clusters(
    user: ClusterLister,
    services: ServicesDep,
    organization_id: Annotated[int | None, Query(ge=1, le=MAX_ID)] = None,
    brief: Annotated[bool, Query(description="Leave out the nodes.")] = False,
    limit: Limit = DEFAULT_PAGE,
    cursor: Cursor = None,
) -> Page[ClusterResponse]:
    """List the clusters of the caller's organizations, or of one, by id. A superuser sees all."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    own = visible_organizations(user, organization_id)
    async with services.database.read() as session:
        rows = await service.list_answers(session, own, after=after, limit=limit + 1, brief=brief)
    return page_of(rows, limit, lambda last: encode_cursor(last.id))


@router.get("/{cluster_id}", responses=documented(401, 404, 422, 429))
async def get_cluster(access: ClusterReader, services: ServicesDep) -> ClusterResponse:
    """Get one cluster with its nodes: capacity, allocated and available amounts."""
    async with services.database.read() as session:
        return await service.get(session, access)


@router.patch("/{cluster_id}", responses=documented(401, 403, 404, 409, 422, 429))
async def update_cluster(
    body: ClusterUpdate,
    access: ClusterChanger,
    services: ServicesDep,
    occupants: OccupantsDep,
    force: Force = False,
) -> ClusterResponse:
    """Change the given fields. Totals resize the only node; `force` allows less than is allocated."""

    async def work(session: WriteSession) -> ClusterResponse:
        return await service.update(session, access, body, occupants, force=force, now=services.clock.now())

    answer = await services.database.transact(work)
    _wake(services)
    return answer


router.add_api_route(
    "/{cluster_id}",
    update_cluster,
    methods=["PUT"],
    operation_id="replace_cluster",
    responses=documented(401, 403, 404, 409, 422, 429),
)


@router.delete(
    "/{cluster_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses={**ACCEPTED, **documented(401, 403, 404, 409, 422, 429)},
)
async def delete_cluster(
    access: ClusterChanger, services: ServicesDep, occupants: OccupantsDep, force: Force = False
) -> Response:
    """Delete the cluster. Refused while it has live or waiting deployments, unless `force`."""

    async def work(session: WriteSession) -> bool:
        return await service.delete(session, access, occupants, force=force, now=services.clock.now())

    deleted = await services.database.transact(work)
    _wake(services)
    return _deleted_or_accepted(
        deleted, "The cluster is deleted as soon as its running deployments have ended."
    )


@router.get("/{cluster_id}/nodes", responses=documented(401, 404, 422, 429))
async def list_nodes(
    access: ClusterReader, services: ServicesDep, limit: Limit = DEFAULT_PAGE, cursor: Cursor = None
) -> Page[NodeResponse]:
    """List the nodes of the cluster, by id."""
    (after,) = decode_cursor(cursor, int) if cursor else (0,)
    async with services.database.read() as session:
        rows = await nodes.list_answers(session, access, after=after, limit=limit + 1)
    if access.is_guest:
        rows = [node_as_guest(row) for row in rows]
    return page_of(rows, limit, lambda last: encode_cursor(last.id))


@router.post(
    "/{cluster_id}/nodes",
    status_code=status.HTTP_201_CREATED,
    responses=documented(401, 403, 404, 409, 422, 429),
)
async def add_node(
    body: NodeCreate, access: ClusterChanger, services: ServicesDep
) -> NodeResponse | Page[NodeResponse]:
    """Add a node. With a `count` above 1, add several equal nodes; the response is a list."""

    async def work(session: WriteSession) -> list[NodeResponse]:
        created = await nodes.add(session, access, body, now=services.clock.now())
        return await nodes.describe_all(session, created)

    answers = await services.database.transact(work)
    _wake(services)
    return answers[0] if body.count == 1 else Page(items=answers)


@router.get("/{cluster_id}/nodes/{node_id}", responses=documented(401, 404, 422, 429))
async def get_node(node_id: NodeId, access: ClusterReader, services: ServicesDep) -> NodeResponse:
    """Get one node with its devices."""
    async with services.database.read() as session:
        answer = await nodes.get(session, access, node_id)
    return node_as_guest(answer) if access.is_guest else answer


@router.patch("/{cluster_id}/nodes/{node_id}", responses=documented(401, 403, 404, 409, 422, 429))
async def update_node(
    node_id: NodeId,
    body: NodeUpdate,
    access: ClusterChanger,
    services: ServicesDep,
    occupants: OccupantsDep,
    force: Force = False,
) -> NodeResponse:
    """Change the given fields.

    A size below the allocated amount, or one that waiting work would no longer fit, needs `force`.
    """

    async def work(session: WriteSession) -> NodeResponse:
        return await resizing.update(
            session, access, node_id, body, occupants, force=force, now=services.clock.now()
        )

    answer = await services.database.transact(work)
    _wake(services)
    return answer


router.add_api_route(
    "/{cluster_id}/nodes/{node_id}",
    update_node,
    methods=["PUT"],
    operation_id="replace_node",
    responses=documented(401, 403, 404, 409, 422, 429),
)


@router.delete(
    "/{cluster_id}/nodes/{node_id}",
    status_code=status.HTTP_204_NO_CONTENT,
    responses={**ACCEPTED, **documented(401, 403, 404, 409, 422, 429)},
)
async def remove_node(
    node_id: NodeId,
    access: ClusterChanger,
    services: ServicesDep,
    occupants: OccupantsDep,
    force: Force = False,
) -> Response:
    """Remove a node.

    Refused while work runs there, or waits that could run on no other node. `force` returns running work to
    the queue first.
    """

    async def work(session: WriteSession) -> bool:
        now = services.clock.now()
        return await nodes.remove(session, access, node_id, occupants, force=force, now=now)

    deleted = await services.database.transact(work)
    _wake(services)
    return _deleted_or_accepted(deleted, "The node is removed as soon as its running deployments have ended.")


@router.post("/{cluster_id}/nodes/{node_id}/cordon", responses=documented(401, 403, 404, 409, 422, 429))
async def cordon_node(node_id: NodeId, access: ClusterChanger, services: ServicesDep) -> NodeResponse:
    """Cordon the node: it accepts no new work, running work continues."""
    return await _cordon(services, access, node_id, cordoned=True)


@router.post("/{cluster_id}/nodes/{node_id}/uncordon", responses=documented(401, 403, 404, 409, 422, 429))
async def uncordon_node(node_id: NodeId, access: ClusterChanger, services: ServicesDep) -> NodeResponse:
    """Uncordon the node: it accepts new work again. This also ends a drain."""
    return await _cordon(services, access, node_id, cordoned=False)


@router.post("/{cluster_id}/nodes/{node_id}/drain", responses=documented(401, 403, 404, 409, 422, 429))
async def drain_node(
    node_id: NodeId, access: ClusterChanger, services: ServicesDep, occupants: OccupantsDep
) -> NodeResponse:
    """Drain the node: cordon it and return its work to the queue, at the same positions."""

    async def work(session: WriteSession) -> NodeResponse:
        return await nodes.drain(session, access, node_id, occupants, now=services.clock.now())

    answer = await services.database.transact(work)
    _wake(services)
    return answer


async def _cordon(
    services: AppServices, access: ClusterChanger, node_id: int, *, cordoned: bool
) -> NodeResponse:
    async def work(session: WriteSession) -> NodeResponse:
        return await nodes.cordon(session, access, node_id, cordoned=cordoned, now=services.clock.now())

    answer = await services.database.transact(work)
    _wake(services)
    return answer


def _check_runtime(services: AppServices, runtime: str) -> None:
    if runtime != "auto" and runtime not in services.runtimes.names:
        available = ", ".join(("auto", *services.runtimes.names))
        raise Invalid(
            "unknown_runtime",
            f"The runtime {runtime!r} is not available on this server. Choose one of {available}.",
        )


def _wake(services: AppServices) -> None:
    for topic in ("scheduler", "reconciler", "maintenance"):
        services.wakeup.notify(topic)


def _deleted_or_accepted(deleted: bool, sentence: str) -> Response:
    if deleted:
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    return JSONResponse({"detail": sentence}, status_code=status.HTTP_202_ACCEPTED)
