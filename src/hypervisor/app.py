"""The ASGI app: routers under /api/v1, documentation, health, metrics, middleware and error format."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI

from hypervisor import __version__, bootstrap
from hypervisor.admin.mount import mount as mount_admin
from hypervisor.api import docs, health, metric_routes, openapi, problems
from hypervisor.api.head_requests import HeadRequests
from hypervisor.api.middleware import ProtocolMiddleware
from hypervisor.api.path_aliases import API_PREFIX
from hypervisor.api.permissions import undeclared_routes
from hypervisor.api.query_check import QueryCheck
from hypervisor.api.request_metrics import RequestMetrics, is_probe
from hypervisor.clusters.routes import router as clusters_router
from hypervisor.clusters.share_routes import router as shares_router
from hypervisor.deployments.history.attempt_routes import router as inspection_router
from hypervisor.deployments.history.checkpoint_routes import router as checkpoint_router
from hypervisor.deployments.history.event_routes import router as feed_router
from hypervisor.deployments.routes import router as deployments_router
from hypervisor.deployments.state.drain import WorkloadDrainer
from hypervisor.identity.routes import router as identity_router
from hypervisor.identity.system_routes import router as system_router
from hypervisor.infra.observability.tracing import Tracing, open_tracing
from hypervisor.kernel.clock import Clock
from hypervisor.organizations.routes import router as organizations_router
from hypervisor.planning.decision_routes import router as decision_router
from hypervisor.planning.forecast_routes import router as forecast_router
from hypervisor.planning.fragmentation_routes import router as fragment_router
from hypervisor.settings import Settings

API_ROUTERS = (
    # The busiest router comes first: Starlette matches routes in this order.
    deployments_router,
    identity_router,
    organizations_router,
    clusters_router,
    shares_router,
    forecast_router,
    decision_router,
    fragment_router,
    inspection_router,
    checkpoint_router,
    feed_router,
    system_router,
)


def create_app(settings: Settings | None = None, clock: Clock | None = None) -> FastAPI:
    """The ASGI app. Its lifespan opens the services and closes them again.

    Raises RuntimeError when a route declares no permission. Raises StartupError when traces are configured
    and their packages are not installed.
    """
    settings = settings or Settings()
    tracing = open_tracing(settings.otel_exporter_otlp_endpoint)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(app, settings, clock, tracing):
            yield

    app = FastAPI(
        title="MLOps Hypervisor",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=openapi.operation_id,
        telemetry={
            "tracer_provider": tracing.provider,
            "tracing": tracing.provider is not None,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
            "exclude": is_probe,
        },
    )
    app.state.occupants = WorkloadDrainer()
    if settings.role != "scheduler":
        _include_api(app)
    app.include_router(health.router)
    app.include_router(metric_routes.router)
    app.add_middleware(HeadRequests)
    app.add_middleware(RequestMetrics, served=app)
    app.add_middleware(ProtocolMiddleware, prefix=settings.url_prefix)
    problems.install(app)
    openapi.install(app, settings.link_prefix)
    _refuse_undeclared(app)
    return app


@asynccontextmanager
async def running(
    app: FastAPI, settings: Settings, clock: Clock | None = None, tracing: Tracing | None = None
) -> AsyncIterator[None]:
    """The lifespan of `app`: open the services of `settings`, attach them to `app`, close them at exit."""
    async with bootstrap.running(settings, clock, tracing) as services:
        app.state.services = services
        if settings.role != "scheduler":
            mount_admin(app, services)
        yield


def _include_api(app: FastAPI) -> None:
    """Add API and documentation. A process with ROLE=scheduler serves only health and metrics.

    Pages, files, health and metrics take any query, as the cache busters of probes and browsers add one.
    """
    check = Depends(QueryCheck())
    for router in API_ROUTERS:
        app.include_router(router, prefix=API_PREFIX, dependencies=[check])
    app.include_router(docs.router)
    app.mount(docs.STATIC_PATH, docs.static_files(), name="static")


def _refuse_undeclared(app: FastAPI) -> None:
    undeclared = undeclared_routes(app.routes)
    if undeclared:
        raise RuntimeError(f"routes without a declared permission: {', '.join(undeclared)}")
