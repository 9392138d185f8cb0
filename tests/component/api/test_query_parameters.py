"""Query parameters on every route: unknown names and repeats are refused as unknown fields are."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.api import Api, ok, refused
from tests.support.teams import Team

NOT_STRICT = {"/", "/healthz", "/readyz", "/metrics"}
"""Probes and pages, whose callers add cache busters."""


def operations(api: Api) -> Iterator[tuple[str, str, dict[str, bool]]]:
    """Method, path with ids, and query parameters (whether they may be repeated) of each operation."""
    for path, methods in api.app.openapi()["paths"].items():
        for method, operation in methods.items():
            declared = [each for each in operation.get("parameters", []) if each["in"] == "query"]
            names = {each["name"]: each["schema"].get("type") == "array" for each in declared}
            yield method.upper(), re.sub(r"\{\w+\}", "1", path), names


async def test_no_route_ignores_an_unknown_parameter(sqlite_api: Api) -> None:
    seen = set()
    for method, path, _ in operations(sqlite_api):
        if path in NOT_STRICT:
            continue
        answer = await sqlite_api.http.request(method, path, params={"no_such_thing": "1"})
        problem = refused(answer, 422, "invalid_request")
        assert problem["errors"][0]["loc"] == ["query", "no_such_thing"], (method, path)
        assert problem["detail"].startswith("no_such_thing: is not a query parameter of this path ("), path
        seen.add(path)
    assert len(seen) > 40


async def test_every_parameter_is_known_and_only_lists_are_repeatable(sqlite_api: Api) -> None:
    repeatable, single = 0, 0
    for method, path, declared in operations(sqlite_api):
        for name, may_repeat in declared.items():
            # Without a login: a known parameter gets to the check of the caller, which refuses.
            once = await sqlite_api.http.request(method, path, params={name: "1"})
            assert once.status_code == 401, (method, path, name, once.text)
            twice = await sqlite_api.http.request(method, path, params={name: ["1", "1"]})
            if may_repeat:
                repeatable += 1
                assert twice.status_code == 401, (method, path, name, twice.text)
                continue
            single += 1
            problem = refused(twice, 422, "invalid_request")
            assert problem["detail"] == f"{name}: is given 2 times and has one value."
    assert repeatable >= 3
    assert single > 20


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limt=3", "limt: is not a query parameter of this path (did you mean limit?)."),
        ("Limit=3", "Limit: is not a query parameter of this path (did you mean limit?)."),
        ("cluster=3", "cluster: is not a query parameter of this path (did you mean cluster_id?)."),
        ("limit%20=3", "limit : is not a query parameter of this path (did you mean limit?)."),
        ("=1", "the query: is not a query parameter of this path (it has: cluster_id, cursor, "),
        ("page=2&per_page=9", "page: is not a query parameter of this path ("),
        ("limit=3&limit=", "limit: is given 2 times and has one value."),
    ],
)
async def test_the_refusal_names_the_parameter_and_the_right_one(team: Team, query: str, detail: str) -> None:
    answer = refused(await team.viewer.get(f"/api/v1/deployments?{query}"), 422, "invalid_request")
    assert answer["detail"].startswith(detail)


async def test_every_wrong_name_is_listed_and_a_long_one_is_cut(team: Team) -> None:
    answer = await team.viewer.get("/api/v1/deployments", params={"x" * 5000: "1", "y": "1"})
    errors = refused(answer, 422, "invalid_request")["errors"]
    assert [error["loc"] for error in errors] == [["query", "x" * 100], ["query", "y"]]


async def test_status_filters_as_state_does(team: Team) -> None:
    await team.cluster()
    queued = (await team.submit("one"))["id"]
    await team.submit("two")
    ok(await team.developer.post(f"/api/v1/deployments/{queued}/cancel"))

    async def found(query: str) -> list[Any]:
        page = ok(await team.viewer.get(f"/api/v1/deployments?{query}"))
        return [one["name"] for one in page["items"]]

    assert await found("status=CANCELLED") == await found("state=cancelled") == ["one"]
    assert await found("status=QUEUED&status=CANCELLED") == ["two", "one"]
    assert await found("status=SUCCEEDED") == []
    both = await team.viewer.get("/api/v1/deployments?status=QUEUED&state=QUEUED")
    assert "same filter" in refused(both, 422, "state_and_status")["detail"]
    refused(await team.viewer.get("/api/v1/deployments?status=DONE"), 422, "invalid_request")


async def test_probes_pages_and_files_take_cache_busters(sqlite_api: Api) -> None:
    paths = [*sorted(NOT_STRICT), "/docs", "/redoc", "/openapi.json", "/static/docs/favicon.png"]
    for path in paths:
        answer = await sqlite_api.http.get(path, params={"v": "123", "name[]": "up"})
        assert answer.status_code in (200, 503), path
