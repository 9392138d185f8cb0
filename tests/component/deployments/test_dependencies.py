"""Dependencies of deployments: names, conditions, other clusters, cycles."""

from __future__ import annotations

import asyncio

from tests.support.api import ok, refused
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"
BATCH = f"{DEPLOYMENTS}/batch"


async def test_a_name_refers_to_the_newest_deployment(team: Team) -> None:
    await team.cluster()
    await team.submit("data")
    newest = await team.submit("data")
    child = await team.submit("train", depends_on=["data"])
    assert [one["deployment_id"] for one in child["depends_on"]] == [newest["id"]]
    assert child["status"] == "BLOCKED"
    assert child["reason"] == f"waits for data ({newest['id']}) to succeed; it is QUEUED"
    assert child["queue_position"] is None
    ways = [newest["id"], str(newest["id"]), {"deployment": "data", "condition": "running"}]
    for way in ways:
        seen = await team.submit("other", depends_on=[way])
        assert seen["depends_on"][0]["deployment_id"] == newest["id"]
        assert seen["depends_on"][0]["status"] == "waiting"
    assert seen["depends_on"][0]["condition"] == "running"


async def test_dependencies_may_be_on_another_cluster_but_not_in_another_organization(team: Team) -> None:
    one, two = await team.cluster(), await team.cluster()
    parent = await team.submit("parent", cluster_id=one["id"])
    child = await team.submit("child", cluster_id=two["id"], depends_on=[parent["id"]])
    assert child["status"] == "BLOCKED"
    body = {"name": "theirs", "total_cpu_cores": 1, "total_ram_gb": 1}
    ok(await team.outsider.post("/api/v1/clusters", body), 201)
    for reference in (parent["id"], "parent", 999_999):
        answer = await team.outsider.post(DEPLOYMENTS, {"name": "spy", "depends_on": [reference]})
        refused(answer, 404, "deployment_not_found")


async def test_met_dependencies_do_not_block_and_broken_ones_are_refused(team: Team) -> None:
    cluster = await team.cluster()
    done = await team.ended(cluster, "done", 0)
    assert (await team.submit("next", depends_on=["done"]))["status"] == "QUEUED"
    live = await team.running(cluster, "live")
    condition = {"deployment": live["id"], "condition": "running"}
    child = await team.submit("beside", depends_on=[condition, done["id"]])
    assert child["status"] == "QUEUED"
    failed = await team.ended(cluster, "broken", 1)
    assert failed["state"] == "FAILED"
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "depends_on": ["broken"]})
    assert "FAILED" in refused(answer, 409, "dependency_failed")["detail"]
    answer = await team.developer.post(DEPLOYMENTS, {"name": "x", "depends_on": ["live", live["id"]]})
    refused(answer, 422, "doubled_dependency")


async def test_cycles_are_refused_and_named(team: Team) -> None:
    await team.cluster()
    ring = [
        {"name": "a", "depends_on": ["b"]},
        {"name": "b", "depends_on": ["c"]},
        {"name": "c", "depends_on": ["a"]},
    ]
    problem = refused(await team.developer.post(BATCH, {"deployments": ring}), 409, "dependency_cycle")
    assert "a -> b -> c -> a" in problem["detail"]
    assert await team.count_deployments() == 0
    answer = await team.developer.post(DEPLOYMENTS, {"name": "self", "depends_on": ["self"]})
    assert "self -> self" in refused(answer, 409, "dependency_cycle")["detail"]
    first = await team.submit("first")
    second = await team.submit("second", depends_on=["first"])
    await team.submit("third", depends_on=["second"])
    path = f"{DEPLOYMENTS}/{first['id']}"
    answer = await team.developer.patch(path, {"depends_on": ["third"]})
    problem = refused(answer, 409, "dependency_cycle")
    assert problem["cycle"] == ["first", "third", "second", "first"]
    refused(await team.developer.patch(path, {"depends_on": [first["id"]]}), 409, "dependency_cycle")
    assert (await team.get(first))["depends_on"] == []
    assert (await team.get(second))["status"] == "BLOCKED"


async def test_two_concurrent_updates_cannot_close_a_cycle(team: Team) -> None:
    await team.cluster()
    for _ in range(3):
        a, b = await team.submit("a"), await team.submit("b")
        answers = await asyncio.gather(
            team.developer.patch(f"{DEPLOYMENTS}/{a['id']}", {"depends_on": [b["id"]]}),
            team.developer.patch(f"{DEPLOYMENTS}/{b['id']}", {"depends_on": [a["id"]]}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
