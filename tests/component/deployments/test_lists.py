"""Lists of deployments: filters, pages and queue positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest

from hypervisor.deployments.access import listing
from hypervisor.deployments.access.listing import Filters
from hypervisor.lifecycle.states import State
from tests.support.api import ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"


async def names(team: Team, query: str) -> list[str]:
    return [item["name"] for item in ok(await team.viewer.get(f"{DEPLOYMENTS}?{query}"))["items"]]


async def test_pages_contain_every_deployment_once_newest_first(team: Team) -> None:
    await team.cluster()
    for number in range(7):
        await team.submit(f"w{number}")
    seen: list[str] = []
    query = "limit=3"
    while True:
        page = ok(await team.viewer.get(f"{DEPLOYMENTS}?{query}"))
        seen += [item["name"] for item in page["items"]]
        # Deployments that are created between two pages do not shift them.
        await team.submit("late")
        if page["next_cursor"] is None:
            break
        query = f"limit=3&cursor={page['next_cursor']}"
    assert seen == [f"w{number}" for number in reversed(range(7))]


async def test_invalid_pages_and_filters_are_refused(team: Team) -> None:
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


async def test_queue_positions_are_by_priority_then_age_in_each_cluster(team: Team) -> None:
    one, two = await team.cluster(), await team.cluster()
    created: dict[str, dict[str, Any]] = {}
    for name, cluster, priority in (
        ("low", one, "LOW"),
        ("first", one, "MEDIUM"),
        ("elsewhere", two, "MEDIUM"),
        ("second", one, "MEDIUM"),
        ("high", one, "HIGH"),
    ):
        team.api.clock.advance(1)
        created[name] = await team.submit(name, cluster_id=cluster["id"], priority=priority)
    expected = {"high": 1, "first": 2, "second": 3, "low": 4, "elsewhere": 1}
    listed = ok(await team.viewer.get(DEPLOYMENTS))["items"]
    assert {item["name"]: item["queue_position"] for item in listed} == expected
    for name, place in expected.items():
        assert (await team.get(created[name]))["queue_position"] == place


async def test_a_page_takes_a_fixed_number_of_queries(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.submit("parent", required_cpu_cores=0.1)

    async def queries_for(count: int) -> int:
        for number in range(count):
            await team.submit(f"w{number}", cluster_id=cluster["id"], depends_on=[parent["id"]])
            await team.submit(f"q{number}", cluster_id=cluster["id"], labels={"a": "b"})
        counts = []
        for _ in range(3):  # another request may run queries at the same time
            with statements_of(team.api.services.database) as statements:
                ok(await team.viewer.get(f"{DEPLOYMENTS}?limit=100"))
            counts.append(len(statements))
        return min(counts)

    assert await queries_for(2) == await queries_for(20)


async def _listed(team: Team, filters: Filters) -> list[int]:
    """All pages of three items, in order."""
    seen: list[int] = []
    before: int | None = None
    async with team.api.services.database.read() as session:
        while True:
            found = await listing.page(session, filters, before=before, limit=3)
            assert len(found.rows) <= 3
            seen += [row.id for row in found.rows]
            if (before := found.next_before) is None:
                return seen


async def test_every_combination_of_filters_lists_what_matches_once(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "STEPS", (1, 4))
    clusters = [(await team.cluster())["id"], (await team.cluster())["id"]]
    members = [
        {
            "name": f"w{number % 3}",
            "cluster_id": clusters[number % 2],
            "priority": (100, 500, 500)[number % 3],
            "labels": ({}, {"team": "a"}, {"team": "b"}, {"team": "a", "env": "x"})[number % 4],
        }
        for number in range(12)
    ]
    body = {"deployments": members}
    created = ok(await team.developer.post(f"{DEPLOYMENTS}/batch", body), 201)["items"]
    for each in created[::5]:
        await team.command(each, "cancel")
    rows = [await team.get(each) for each in reversed(created)]

    tests: dict[str, Callable[[dict[str, Any], Any], bool]] = {
        "cluster_id": lambda row, expected_ids: row["cluster_id"] == expected_ids,
        "states": lambda row, expected_ids: row["state"] in expected_ids,
        "priority": lambda row, expected_ids: row["priority"] == expected_ids,
        "labels": lambda row, expected_ids: all(
            row["labels"].get(key, "") == (value or row["labels"].get(key)) for key, value in expected_ids
        ),
        "name": lambda row, expected_ids: row["name"] == expected_ids,
    }
    choices: dict[str, Sequence[Any]] = {
        "cluster_id": (None, clusters[0]),
        "states": ((), (State.CANCELLED,), (State.QUEUED, State.STOPPED)),
        "priority": (None, 500),
        "labels": ((), (("team", "a"), ("env", None)), (("team", None),)),
        "name": (None, "w1"),
    }
    for values in product(*choices.values()):
        expected_ids: dict[str, Any] = dict(zip(choices, values, strict=True))
        expected = [
            row["id"]
            for row in rows
            if all(tests[key](row, value) for key, value in expected_ids.items() if value not in (None, ()))
        ]
        assert await _listed(team, Filters([team.id], **expected_ids)) == expected, expected_ids
    for organizations in (None, [team.id, team.id + 1_000]):
        assert await _listed(team, Filters(organizations, states=[State.CANCELLED])) == [
            row["id"] for row in rows if row["state"] == "CANCELLED"
        ]
    assert await _listed(team, Filters([], name="w1")) == []


async def test_a_page_of_rare_matches_is_short_and_has_a_cursor(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "STEPS", (2, 2))
    await team.cluster()
    rare = await team.submit("same")
    for _ in range(9):
        await team.submit("same", priority="HIGH")
    page = ok(await team.viewer.get(f"{DEPLOYMENTS}?name=same&priority=MEDIUM"))
    assert page["items"] == []
    pages = 1
    while not page["items"]:
        page = ok(
            await team.viewer.get(f"{DEPLOYMENTS}?name=same&priority=MEDIUM&cursor={page['next_cursor']}")
        )
        pages += 1
    assert [item["id"] for item in page["items"]] == [rare["id"]]
    assert pages == 3
