"""Lists of deployments: filters, pages and places in the queue."""

from __future__ import annotations

from typing import Any

from tests.support.api import ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"


async def names(team: Team, query: str) -> list[str]:
    return [item["name"] for item in ok(await team.viewer.get(f"{DEPLOYMENTS}?{query}"))["items"]]


async def test_pages_hold_everything_once_newest_first(team: Team) -> None:
    await team.cluster()
    for number in range(7):
        await team.submit(f"w{number}")
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = ok(await team.viewer.get(f"{DEPLOYMENTS}?{query}"))
        seen += [item["name"] for item in page["items"]]
        # What comes in between pages does not shift them.
        await team.submit("late")
        if page["next_cursor"] is None:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
    assert seen == [f"w{number}" for number in reversed(range(7))]


async def test_bad_pages_and_filters_are_refused(team: Team) -> None:
    for query in ("limit=0", "limit=101", "state=SLEEPING", "priority=URGENT", "name=%00", "label=%00"):
        refused(await team.viewer.get(f"{DEPLOYMENTS}?{query}"), 422, "invalid_request")
    for cursor in ("x", "W10", "WyJhIl0"):
        refused(await team.viewer.get(f"{DEPLOYMENTS}?cursor={cursor}"), 422, "invalid_cursor")


async def test_filters_limit_and_combine(team: Team) -> None:
    one, two = await team.cluster(), await team.cluster()
    await team.running(one, "runs", priority="HIGH", labels={"team": "vision", "env": "prod"})
    await team.submit("waits", cluster_id=two["id"], labels={"team": "vision"}, priority="LOW")
    await team.submit("blocked", cluster_id=two["id"], depends_on=["waits"], labels={"team": "text=x"})
    assert await names(team, "state=RUNNING") == ["runs"]
    assert await names(team, "state=running&state=BLOCKED") == ["blocked", "runs"]
    assert await names(team, f"cluster_id={two['id']}") == ["blocked", "waits"]
    assert await names(team, "priority=HIGH") == ["runs"]
    assert await names(team, "priority=100") == ["waits"]
    assert await names(team, "name=waits") == ["waits"]
    assert await names(team, "label=team") == ["blocked", "waits", "runs"]
    assert await names(team, "label=team=vision") == ["waits", "runs"]
    assert await names(team, "label=team=vision&label=env=prod") == ["runs"]
    assert await names(team, "label=team=text%3Dx") == ["blocked"]
    assert await names(team, "label=team=vision&state=QUEUED") == ["waits"]
    assert await names(team, "label=nothing") == []


async def test_only_the_callers_organizations_are_listed(team: Team) -> None:
    cluster = await team.cluster()
    await team.submit("ours")
    assert ok(await team.outsider.get(DEPLOYMENTS))["items"] == []
    assert ok(await team.outsider.get(f"{DEPLOYMENTS}?cluster_id={cluster['id']}"))["items"] == []
    answer = await team.outsider.get(f"{DEPLOYMENTS}?organization_id={team.id}")
    refused(answer, 404, "organization_not_found")
    assert len(ok(await (await team.api.superuser()).get(DEPLOYMENTS))["items"]) == 1


async def test_places_in_the_queue_are_by_priority_then_age_in_each_cluster(team: Team) -> None:
    one, two = await team.cluster(), await team.cluster()
    made: dict[str, dict[str, Any]] = {}
    for name, cluster, priority in (
        ("low", one, "LOW"),
        ("first", one, "MEDIUM"),
        ("elsewhere", two, "MEDIUM"),
        ("second", one, "MEDIUM"),
        ("high", one, "HIGH"),
    ):
        team.api.clock.advance(1)
        made[name] = await team.submit(name, cluster_id=cluster["id"], priority=priority)
    expected = {"high": 1, "first": 2, "second": 3, "low": 4, "elsewhere": 1}
    listed = ok(await team.viewer.get(DEPLOYMENTS))["items"]
    assert {item["name"]: item["queue_position"] for item in listed} == expected
    for name, place in expected.items():
        assert (await team.get(made[name]))["queue_position"] == place


async def test_a_page_takes_a_fixed_number_of_queries(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.submit("parent", required_cpu_cores=0.1)

    async def queries_for(count: int) -> int:
        for number in range(count):
            await team.submit(f"w{number}", cluster_id=cluster["id"], depends_on=[parent["id"]])
            await team.submit(f"q{number}", cluster_id=cluster["id"], labels={"a": "b"})
        counts = []
        for _ in range(3):  # somebody else may ask something at the same time
            with statements_of(team.api.container.database) as statements:
                ok(await team.viewer.get(f"{DEPLOYMENTS}?limit=100"))
            counts.append(len(statements))
        return min(counts)

    assert await queries_for(2) == await queries_for(20)
