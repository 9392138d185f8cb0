"""Gangs over the API: accepted and refused requests, and responses for each replica."""

from __future__ import annotations

import pytest

from tests.support.api import ok, refused
from tests.support.teams import Team

TWO_NODES = [{"name": name, "cpu_cores": 2, "ram_gb": 4, "gpu_count": 2} for name in ("a", "b")]


async def test_each_replica_is_shown_with_its_node(team: Team) -> None:
    cluster = await team.cluster(nodes=TWO_NODES)
    gang = await team.submit("gang", cluster_id=cluster["id"], replicas=3, required_gpu_count=1)
    assert (gang["replicas"], gang["replica_placement"], gang["placements"]) == (3, "pack", [])
    await team.schedule(cluster)
    seen = await team.get(gang)
    assert (seen["state"], seen["reason"]) == ("STARTING", "starts 3 replicas on a, b")
    assert (seen["node_name"], seen["gpu_indices"]) == ("a", [0])
    placed = [(one["replica"], one["node_name"], one["gpu_indices"]) for one in seen["placements"]]
    assert placed == [(0, "a", [0]), (1, "a", [1]), (2, "b", [0])]
    for replica in (0, 2):
        await team.report(gang, replica=replica)
    seen = await team.get(gang)
    assert seen["state"] == "STARTING"
    assert [one["state"] for one in seen["placements"]] == ["RUNNING", "STARTING", "RUNNING"]
    await team.report(gang, replica=1)
    assert (await team.get(gang))["state"] == "RUNNING"
    await team.report(gang, replica=1, exit_code=0)
    seen = await team.get(gang)
    assert seen["state"] == "RUNNING"
    assert [one["state"] for one in seen["placements"]] == ["RUNNING", "SUCCEEDED", "RUNNING"]


async def test_spread_is_kept_and_can_be_changed_while_it_waits(team: Team) -> None:
    cluster = await team.cluster(nodes=TWO_NODES)
    gang = await team.submit("gang", cluster_id=cluster["id"], replicas=2, replica_placement="spread")
    assert gang["replica_placement"] == "spread"
    path = f"/api/v1/deployments/{gang['id']}"
    changed = ok(await team.developer.patch(path, {"replica_placement": "pack", "replicas": 4}))
    assert (changed["replica_placement"], changed["replicas"]) == ("pack", 4)
    await team.schedule(cluster)
    assert len((await team.get(gang))["placements"]) == 4


async def test_attempts_and_logs_have_a_replica(team: Team) -> None:
    cluster = await team.cluster(nodes=TWO_NODES)
    gang = await team.running(cluster, "gang", replicas=1)
    several = await team.submit("several", cluster_id=cluster["id"], replicas=3)
    await team.schedule(cluster)
    path = f"/api/v1/deployments/{several['id']}"
    page = ok(await team.viewer.get(f"{path}/attempts?limit=2"))
    rest = ok(await team.viewer.get(f"{path}/attempts?cursor={page['next_cursor']}"))
    listed = [(item["number"], item["replica"]) for item in [*page["items"], *rest["items"]]]
    assert listed == [(1, 0), (1, 1), (1, 2)]
    assert (await team.viewer.get(f"{path}/logs?replica=2")).status_code == 200
    refused(await team.viewer.get(f"{path}/logs?replica=3"), 404, "replica_not_found")
    assert [one["replica"] for one in gang["placements"]] == [0]


@pytest.mark.parametrize("replicas", [0, 65])
async def test_replicas_are_limited_to_sixty_four(team: Team, replicas: int) -> None:
    cluster = await team.cluster()
    body = {"name": "gang", "cluster_id": cluster["id"], "replicas": replicas}
    assert (await team.developer.post("/api/v1/deployments", body)).status_code == 422


async def test_a_gang_that_exceeds_the_empty_cluster_is_refused(team: Team) -> None:
    cluster = await team.cluster(nodes=TWO_NODES)
    body = {"name": "gang", "cluster_id": cluster["id"], "replicas": 5}
    answer = await team.developer.post("/api/v1/deployments", body)
    assert "only 4 of them" in refused(answer, 422, "gang_larger_than_cluster")["detail"]
    fits = await team.submit("gang", cluster_id=cluster["id"], replicas=4)
    path = f"/api/v1/deployments/{fits['id']}"
    refused(await team.developer.patch(path, {"replicas": 5}), 422, "gang_larger_than_cluster")


async def test_a_stop_shows_all_replicas_stopping(team: Team) -> None:
    cluster = await team.cluster(nodes=TWO_NODES)
    gang = await team.submit("gang", cluster_id=cluster["id"], replicas=2)
    await team.schedule(cluster)
    await team.command(gang, "stop")
    assert [one["state"] for one in (await team.get(gang))["placements"]] == ["STOPPING", "STOPPING"]
    await team.report(gang, replica=0, exit_code=0)
    assert (await team.get(gang))["state"] == "STOPPING"
    await team.report(gang, replica=1, exit_code=0)
    assert (await team.get(gang))["state"] == "STOPPED"
