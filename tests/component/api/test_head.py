"""HEAD on every route that has GET."""

from __future__ import annotations

import asyncio
import re

from fastapi.routing import APIRoute, iter_route_contexts

from tests.support.api import Api
from tests.support.teams import Team
from tests.support.wait import PROMPT

OTHERS = ["/openapi.json", "/static/docs/favicon.png", "/static/nothing", "/admin/login", "/nothing"]


async def test_head_answers_as_get_without_a_body_on_every_route(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("train", cluster_id=cluster["id"])
    paths = [path for path, methods in _routes(team.api) if "GET" in methods] + OTHERS
    assert len(paths) > 30
    for path in paths:
        if path.endswith("/stream"):
            continue
        got, head = await team.admin.get(path), await team.admin.call("HEAD", path)
        assert head.status_code == got.status_code, path
        assert head.headers["content-type"] == got.headers["content-type"], path
        assert head.content == b""
        if path not in ("/metrics", "/readyz"):
            # The time is in both, and a problem has its request id.
            assert head.headers.get("content-length") == got.headers.get("content-length"), path


async def test_head_of_a_stream_ends(team: Team) -> None:
    cluster = await team.cluster()
    deployment = await team.submit("train", cluster_id=cluster["id"])
    await team.schedule(cluster)
    paths = (
        f"/api/v1/organizations/{team.id}/events/stream",
        f"/api/v1/deployments/{deployment['id']}/logs?follow=true",
    )
    for path in paths:
        async with asyncio.timeout(PROMPT):
            answer = await team.viewer.call("HEAD", path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.content == b""
    assert team.api.services.relay.listeners == 0


async def test_head_is_refused_where_get_is(team: Team) -> None:
    for path, methods in _routes(team.api):
        if "GET" not in methods:
            got, head = await team.admin.get(path), await team.admin.call("HEAD", path)
            assert head.status_code == got.status_code >= 400, path
    answer = await team.outsider.call("HEAD", f"/api/v1/organizations/{team.id}")
    assert answer.status_code == 404
    assert (await team.api.http.head("/api/v1/deployments")).status_code == 401
    refused = await team.admin.call("DELETE", "/api/v1/auth/me")
    assert set(refused.headers["allow"].split(", ")) >= {"GET", "HEAD"}


async def test_head_is_counted_as_head(team: Team) -> None:
    await team.admin.call("HEAD", "/api/v1/clusters")
    metrics = (await team.api.http.get("/metrics")).text
    assert re.search(r'method="HEAD",route="/api/v1/clusters",status="200"\} 1', metrics)


def _routes(api: Api) -> list[tuple[str, set[str]]]:
    """Each path with ids, and its methods in all routes."""
    found: dict[str, set[str]] = {}
    for context in iter_route_contexts(api.app.routes):
        if isinstance(context.original_route, APIRoute):
            path = re.sub(r"\{\w+\}", "1", context.path or "")
            found.setdefault(path, set()).update(context.methods or ())
    return sorted(found.items())
