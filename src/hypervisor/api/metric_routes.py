"""The route `/metrics` for Prometheus."""

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
async def _check_scraper(
    services: ServicesDep, authorization: Annotated[str | None, Header(include_in_schema=False)] = None
) -> None:
    """Check METRICS and METRICS_TOKEN. There is no rate limit, because a scraper never stops."""
    settings = services.settings
    if settings.metrics == "off":
        raise NotFound("metrics_off", "Metrics are disabled on this server (METRICS=off).")
    if settings.metrics_token is None:
        return
    expected = f"Bearer {settings.metrics_token.get_secret_value()}"
    if not hmac.compare_digest((authorization or "").encode(), expected.encode()):
        raise Unauthenticated(
            "metrics_token_needed",
            "Metrics need a token: send the value of METRICS_TOKEN as `Authorization: Bearer <token>`.",
            headers={"WWW-Authenticate": "Bearer"},
        )


@router.get(
    "/metrics",
    dependencies=[Depends(_check_scraper)],
    response_class=PlainTextResponse,
    responses=documented(401, 404),
)
async def get_metrics(
    services: ServicesDep, accept: Annotated[str, Header(include_in_schema=False)] = ""
) -> PlainTextResponse:
    """Metrics for Prometheus: of this process, and of queue, capacity and leases in the database."""
    metrics = services.telemetry.metrics
    await services.state_metrics.refresh()
    for check in await services.readiness.check():
        metrics.ready.labels(check.name).set(check.ok)
    metrics.event_streams.set(services.relay.listeners)
    for update in services.telemetry.before_scrape:
        update()
    encode, content_type = choose_encoder(accept)
    body = await asyncio.to_thread(encode, metrics.registry)
    return PlainTextResponse(body, headers={"Content-Type": content_type})
