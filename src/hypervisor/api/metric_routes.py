"""`/metrics`, for Prometheus."""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import choose_encoder

from hypervisor.api.permissions import declares
from hypervisor.api.problems import documented
from hypervisor.api.services import ServicesDep
from hypervisor.errors import NotFound, Unauthenticated

router = APIRouter(tags=["Service"])


@declares("public")
async def _scraper(
    services: ServicesDep, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """METRICS and METRICS_TOKEN decide. Not counted against a rate limit: a scraper comes for ever."""
    settings = services.settings
    if settings.metrics == "off":
        raise NotFound("metrics_off", "This server gives out no metrics (METRICS=off).")
    if settings.metrics_token is None:
        return
    wanted = f"Bearer {settings.metrics_token.get_secret_value()}"
    if not hmac.compare_digest((authorization or "").encode(), wanted.encode()):
        raise Unauthenticated(
            "metrics_token_needed",
            "Metrics need the token that METRICS_TOKEN names, as `Authorization: Bearer ...`.",
            headers={"WWW-Authenticate": "Bearer"},
        )


@router.get(
    "/metrics",
    dependencies=[Depends(_scraper)],
    response_class=PlainTextResponse,
    responses=documented(401, 404),
)
async def get_metrics(
    services: ServicesDep, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> PlainTextResponse:
    """For Prometheus: what this process counts, and what the database says of queue, capacity and leases."""
    metrics = services.telemetry.metrics
    await services.state_metrics.refresh()
    for check in await services.readiness.check():
        metrics.ready.labels(check.name).set(check.ok)
    metrics.event_streams.set(services.relay.listeners)
    for look in services.telemetry.before_scrape:
        look()
    encode, content_type = choose_encoder(accept)
    body = await asyncio.to_thread(encode, metrics.registry)
    return PlainTextResponse(body, headers={"Content-Type": content_type})
