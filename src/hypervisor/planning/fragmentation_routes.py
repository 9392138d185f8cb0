"""Endpoints about fragmentation and moves."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from hypervisor.api.json_body import JsonRoute
from hypervisor.api.problems import documented
from hypervisor.api.schema import MAX_BIG_ID, MAX_ID
from hypervisor.api.services import ServicesDep
from hypervisor.clusters.field_types import CpuCores, RamGb, StrictRequest
from hypervisor.clusters.occupants import OccupantsDep
from hypervisor.clusters.policy import ClusterChanger, ClusterReader
from hypervisor.deployments.schemas.field_types import GpuRequest
from hypervisor.kernel.resources import Resources
from hypervisor.planning.fragmentation import execute_move, propose_moves, report
from hypervisor.planning.responses import ConsolidationResponse, FragmentationResponse, MoveResponse
from hypervisor.scheduling.snapshots.snapshot import Shape

_MOST_STEPS = 500_000

router = APIRouter(prefix="/clusters", tags=["Clusters"], route_class=JsonRoute)


class MoveRequest(StrictRequest):
    """The deployment to move, and its new node in the same cluster."""

    deployment_id: Annotated[int, Field(ge=1, le=MAX_BIG_ID)]
    node_id: Annotated[int, Field(ge=1, le=MAX_ID)]


@router.get("/{cluster_id}/fragmentation", responses=documented(401, 404, 422, 429))
async def get_fragmentation(
    access: ClusterReader,
    services: ServicesDep,
    gpu_count: Annotated[
        GpuRequest | None, Query(description="The GPUs of the request to make room for.")
    ] = None,
    cpu: Annotated[CpuCores | None, Query(description="Its CPU cores.")] = None,
    ram: Annotated[RamGb | None, Query(description="Its GiB of memory.")] = None,
) -> FragmentationResponse:
    """How the free capacity serves typical requests, and which moves would make room for one request."""
    shape = None
    if gpu_count is not None or cpu is not None or ram is not None:
        amounts = Resources.from_edge(cpu_cores=cpu or 0, ram_gb=ram or 0, gpu_count=gpu_count or 0)
        shape = Shape(amounts.cpu_milli, amounts.ram_mib, amounts.gpu_milli)
    return await report(services.database, access, shape, services.clock.now())


@router.get("/{cluster_id}/consolidation", responses=documented(401, 404, 422, 429))
async def get_consolidation(
    access: ClusterReader,
    services: ServicesDep,
    steps: Annotated[
        int,
        Query(
            ge=1,
            le=_MOST_STEPS,
            description="The length of the search; some hundred thousand steps take a second.",
        ),
    ] = 100_000,
) -> ConsolidationResponse:
    """Few moves of running deployments that would let more of the queue start. This moves nothing."""
    return await propose_moves(services.database, access, steps, services.clock.now())


@router.post("/{cluster_id}/moves", responses=documented(401, 403, 404, 409, 422, 429))
async def move_deployment(
    body: MoveRequest, access: ClusterChanger, services: ServicesDep, occupants: OccupantsDep
) -> MoveResponse:
    """Stop a deployment within its grace period and start it again on another node.

    Capacity on that node is reserved as soon as the deployment is queued again. If others take it before
    that, the deployment waits at its old position in the queue.
    """
    now = services.clock.now()
    move = await execute_move(services.database, access, occupants, body.deployment_id, body.node_id, now)
    for topic in ("scheduler", "reconciler"):
        services.wakeup.notify(topic)
    return move
