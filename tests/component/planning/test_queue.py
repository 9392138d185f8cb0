"""The queue in the scheduler's order with the components of each position, and reasons as of now."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.planning import queue_view
from hypervisor.scheduling.queueing.ordering import order_components
from hypervisor.store.tables import Deployment
from tests.support.api import ok, refused
from tests.support.statements import statements_of
from tests.support.teams import Team, team_at_rest


@pytest.fixture
async def team(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as created:
        yield created


def queue_path(cluster: dict[str, Any], query: str = "") -> str:
    return f"/api/v1/clusters/{cluster['id']}/queue{query}"


async def test_the_queue_is_in_order_with_every_component(team: Team) -> None:
    cluster = await team.cluster(total_cpu_cores=2)
    await team.running(cluster, "busy", required_cpu_cores=2, preemptible=False)
    for name, priority in (("first", "LOW"), ("second", "HIGH"), ("third", "HIGH")):
        await team.submit(name, cluster_id=cluster["id"], priority=priority, required_cpu_cores=2)
        team.api.clock.advance(60)
    items = ok(await team.viewer.get(queue_path(cluster)))["items"]
    assert [one["name"] for one in items] == ["second", "third", "first"]
    assert [one["position"] for one in items] == [1, 2, 3]
    assert [one["priority_label"] for one in items] == ["HIGH", "HIGH", "LOW"]
    assert [one["waited_seconds"] for one in items] == [120, 60, 180]
    assert items[2]["age_factor"] > items[1]["age_factor"] > 0
    assert [one["nomination"] for one in items] == [None, None, None]


async def _positions(team: Team, cluster: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """The positions by name, in lists and in the queue."""
    listed = ok(await team.viewer.get(f"/api/v1/deployments?cluster_id={cluster['id']}&state=QUEUED"))[
        "items"
    ]
    queued = ok(await team.viewer.get(queue_path(cluster)))["items"]
    return {one["name"]: one["queue_position"] for one in listed}, {
        one["name"]: one["position"] for one in queued
    }


async def test_positions_in_lists_are_those_of_the_queue_without_inherited_priorities(team: Team) -> None:
    cluster = await team.cluster()
    for name, priority in (("a", "LOW"), ("b", "HIGH"), ("c", "LOW"), ("d", "CRITICAL")):
        await team.submit(name, cluster_id=cluster["id"], priority=priority)
        team.api.clock.advance(60)
    in_lists, in_queue = await _positions(team, cluster)
    assert in_lists == in_queue == {"d": 1, "b": 2, "a": 3, "c": 4}
    await team.submit("waits", cluster_id=cluster["id"], priority="CRITICAL", depends_on=["c"])
    in_lists, in_queue = await _positions(team, cluster)
    assert in_lists == {"d": 1, "b": 2, "a": 3, "c": 4}
    assert in_queue == {"c": 1, "d": 2, "b": 3, "a": 4}


async def test_a_page_begins_after_the_last_entry_of_the_page_before(team: Team) -> None:
    cluster = await team.cluster()
    created = [await team.submit(f"w{number}", cluster_id=cluster["id"]) for number in range(5)]
    page = ok(await team.viewer.get(queue_path(cluster, "?limit=2")))
    assert [one["id"] for one in page["items"]] == [created[0]["id"], created[1]["id"]]
    await team.command(created[1], "cancel")
    rest = ok(await team.viewer.get(queue_path(cluster, f"?limit=2&cursor={page['next_cursor']}")))
    assert [one["id"] for one in rest["items"]] == [created[2]["id"], created[3]["id"]]
    last = ok(await team.viewer.get(queue_path(cluster, f"?limit=2&cursor={rest['next_cursor']}")))
    assert ([one["id"] for one in last["items"]], last["next_cursor"]) == ([created[4]["id"]], None)


async def test_pages_of_rows_have_the_order_of_the_scheduler(team: Team) -> None:
    """With inherited priorities, some along a chain, equal times, and one deployment in a back-off."""
    cluster = await team.cluster()
    seeded, created = random.Random(11), []
    for number in range(14):
        priority = seeded.choice(["LOW", "MEDIUM", "HIGH"])
        created.append(
            await team.submit(f"w{number}", cluster_id=cluster["id"], kind="job", priority=priority)
        )
        team.api.clock.advance(seeded.choice([0, 0, 60]))
    for child, (parent, wish) in enumerate([(3, "CRITICAL"), (8, "HIGH"), (9, 600), (12, "LOW")]):
        more = {"cluster_id": cluster["id"], "kind": "job", "priority": wish}
        await team.submit(f"child{child}", depends_on=[f"w{parent}"], **more)
    await team.submit("grandchild", cluster_id=cluster["id"], depends_on=["child1"], priority="CRITICAL")
    database, now = team.api.services.database, team.api.clock.now()
    async with database.write() as session:
        soon = {"not_before": now + timedelta(seconds=60)}
        await session.execute(update(Deployment).where(Deployment.id == created[6]["id"]).values(soon))
    async with database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    parts = order_components(view.snapshot, view.policy)
    rows = parts.position.argsort().tolist()
    expected = [
        (int(parts.deployment_id[row]), int(parts.priority[row]), round(float(parts.age_factor[row]), 6))
        for row in rows
    ]
    assert len(expected) == 13
    for limit in (1, 3, 13):
        items = []
        cursor: str | None = ""
        while cursor is not None:
            page = ok(await team.viewer.get(queue_path(cluster, f"?limit={limit}{cursor}")))
            items += page["items"]
            cursor = f"&cursor={page['next_cursor']}" if page["next_cursor"] else None
        assert [(one["id"], one["priority"], one["age_factor"]) for one in items] == expected
        assert [one["position"] for one in items] == list(range(1, 14))


async def test_a_page_costs_what_is_on_it(team: Team) -> None:
    """A page reads no nodes, no running deployments, and no more of the queue than it shows."""
    cluster = await team.cluster()
    for number in range(5):
        await team.submit(f"w{number}", cluster_id=cluster["id"])
    with statements_of(team.api.services.database) as statements:
        ok(await team.viewer.get(queue_path(cluster, "?limit=2")))
    assert not [one for one in statements if "allocations" in one]
    of_queue = [one for one in statements if "FROM deployments" in one and "'QUEUED'" in one]
    assert of_queue
    assert [one for one in of_queue if "LIMIT" not in one] == []


async def test_a_nomination_is_shown_to_members_only(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "low", priority="LOW", required_gpu_count=2)
    await team.submit("high", cluster_id=cluster["id"], priority="HIGH", required_gpu_count=2)
    await team.schedule(cluster)
    (entry,) = ok(await team.viewer.get(queue_path(cluster)))["items"]
    assert entry["nomination"] == {"node": "node-1", "gpu_indices": [0, 1]}
    refused(await team.outsider.get(queue_path(cluster)), 404, "cluster_not_found")


async def test_an_empty_queue_is_an_empty_page(team: Team) -> None:
    cluster = await team.cluster()
    assert ok(await team.viewer.get(queue_path(cluster))) == {"items": [], "next_cursor": None}


async def test_explain_has_the_reason_as_of_now(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "busy", required_cpu_cores=3, preemptible=False)
    waiting = await team.submit("waiting", cluster_id=cluster["id"], required_cpu_cores=2)
    path = f"/api/v1/deployments/{waiting['id']}/explain"
    why = ok(await team.viewer.get(path))
    assert why["reason"]["code"] == "insufficient_cpu"
    assert why["reason"]["shortfall"]["cpu_cores"] == 1
    assert "1 CPU core" in why["sentence"]
    node = ok(await team.viewer.get(f"/api/v1/clusters/{cluster['id']}/nodes"))["items"][0]
    ok(await team.admin.patch(f"/api/v1/clusters/{cluster['id']}/nodes/{node['id']}", {"cpu_cores": 8}))
    why = ok(await team.viewer.get(path))
    assert why["reason"]["code"] == "about_to_start"
    assert "node-1" in why["sentence"]


async def test_in_a_long_queue_explain_has_the_reason_of_the_last_pass(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "busy", required_cpu_cores=3, preemptible=False)
    waiting = await team.submit("waiting", cluster_id=cluster["id"], required_cpu_cores=2)
    path = f"/api/v1/deployments/{waiting['id']}/explain"
    assert ok(await team.viewer.get(path))["reason"]["code"] == "insufficient_cpu"
    monkeypatch.setattr(queue_view, "LONG_QUEUE", 0)
    with statements_of(team.api.services.database) as statements:
        why = ok(await team.viewer.get(path))
    assert (why["reason"]["code"], why["queue_position"]) == ("queued", 1)
    assert not [one for one in statements if "FROM nodes" in one]


async def test_explain_names_the_deployments_that_the_scheduler_takes_first(team: Team) -> None:
    """A parent of low priority has the priority of the child that depends on it."""
    cluster = await team.cluster(total_cpu_cores=2)
    await team.running(cluster, "busy", required_cpu_cores=2, preemptible=False)
    more = {"cluster_id": cluster["id"], "required_cpu_cores": 2}
    waiting = await team.submit("waiting", priority="MEDIUM", **more)
    parent = await team.submit("parent", kind="job", priority="LOW", **more)
    await team.submit("child", priority="HIGH", depends_on=["parent"], **more)
    positions = {
        one["id"]: one["position"] for one in ok(await team.viewer.get(queue_path(cluster)))["items"]
    }
    assert positions == {parent["id"]: 1, waiting["id"]: 2}
    for one, ahead in ((parent, []), (waiting, [parent["id"]])):
        why = ok(await team.viewer.get(f"/api/v1/deployments/{one['id']}/explain"))
        assert why["queue_position"] == positions[one["id"]]
        assert [each["deployment_id"] for each in why["ahead"]] == ahead
