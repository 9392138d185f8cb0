"""Fragmentation over HTTP, and a move that an admin requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import ok, refused
from tests.support.teams import Team, team_at_rest


@pytest.fixture
async def team(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as created:
        yield created


async def two_nodes(team: Team) -> dict[str, Any]:
    nodes = [{"name": f"n{one}", "cpu_cores": 8, "ram_gb": 16, "gpu_count": 2} for one in (1, 2)]
    return await team.cluster(nodes=nodes, placement_policy="spread")


async def spread_out(team: Team, cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Use one GPU of each node, so that no node has two free GPUs."""
    deployments = [await team.running(cluster, f"w{one}", required_gpu_count=1) for one in (1, 2)]
    assert {one["node_name"] for one in deployments} == {"n1", "n2"}
    return deployments


def below(cluster: dict[str, Any], what: str) -> str:
    return f"/api/v1/clusters/{cluster['id']}/{what}"


async def test_typical_requests_and_nodes_are_reported(team: Team) -> None:
    cluster = await two_nodes(team)
    await spread_out(team, cluster)
    await team.submit("pair", cluster_id=cluster["id"], required_gpu_count=2)
    response = ok(await team.viewer.get(below(cluster, "fragmentation")))
    by_gpus = {one["required_gpu_count"]: one for one in response["shapes"]}
    assert (by_gpus[1]["fits_now"], by_gpus[1]["unusable_gpu"]) == (2, 0)
    assert (by_gpus[2]["fits_now"], by_gpus[2]["unusable_gpu"]) == (0, 2)
    assert [(one["node"], one["free_gpus"], one["idle_gpu"]) for one in response["nodes"]] == [
        ("n1", 1, 1),
        ("n2", 1, 1),
    ]
    assert response["nodes"][0]["expected_unusable_gpu"] == pytest.approx(1 / 3, abs=1e-4)
    assert response["opening"] is None


async def test_a_move_makes_the_proposed_room(team: Team) -> None:
    cluster = await two_nodes(team)
    await spread_out(team, cluster)
    query = below(cluster, "fragmentation?gpu_count=2&cpu=1&ram=1")
    opening = ok(await team.viewer.get(query))["opening"]
    (move,) = opening["moves"]
    assert move["from_node"] == opening["node"] != move["to_node"]
    order = {"deployment_id": move["deployment"]["id"], "node_id": move["to_node_id"]}
    refused(await team.developer.post(below(cluster, "moves"), order), 403, "role_too_low")
    done = ok(await team.admin.post(below(cluster, "moves"), order))
    assert done["to_node"] == move["to_node"]
    moved = await team.get(order["deployment_id"])
    assert (moved["state"], moved["state_after_stop"]) == ("STOPPING", "QUEUED")
    assert "deployment.moved" in {one["type"] for one in await team.events(moved)}

    await team.report(moved, exit_code=143)
    await team.schedule(cluster)
    assert (await team.get(moved))["node_name"] == move["to_node"]
    assert ok(await team.viewer.get(query))["opening"] == {"node": opening["node"], "moves": []}
    pair = await team.running(cluster, "pair", required_gpu_count=2)
    assert pair["node_name"] == opening["node"]


async def test_the_proposed_moves_let_the_queue_start(team: Team) -> None:
    cluster = await two_nodes(team)
    assert ok(await team.viewer.get(below(cluster, "consolidation"))) == {
        "moves": [],
        "in_turn": 0,
        "starts": [],
    }
    await spread_out(team, cluster)
    pair = await team.submit("pair", cluster_id=cluster["id"], required_gpu_count=2)
    await team.schedule(cluster)
    response = ok(await team.viewer.get(below(cluster, "consolidation?steps=2000")))
    (move,), (start,) = response["moves"], response["starts"]
    assert (response["in_turn"], start["deployment"]["name"], start["node"]) == (1, "pair", move["from_node"])
    order = {"deployment_id": move["deployment"]["id"], "node_id": move["to_node_id"]}
    ok(await team.admin.post(below(cluster, "moves"), order))
    await team.report(await team.get(order["deployment_id"]), exit_code=143)
    await team.schedule(cluster)
    assert (await team.get(pair))["node_name"] == start["node"]


async def test_a_move_that_is_not_possible_is_refused(team: Team) -> None:
    cluster = await two_nodes(team)
    first, _ = await spread_out(team, cluster)
    nodes = {one["name"]: one["id"] for one in cluster["nodes"]}
    other = next(id_ for name, id_ in nodes.items() if name != first["node_name"])
    path = below(cluster, "moves")
    for order in (
        {"deployment_id": first["id"], "node_id": nodes[first["node_name"]]},
        {"deployment_id": first["id"], "node_id": 999_999},
        {"deployment_id": 999_999, "node_id": other},
    ):
        refused(await team.admin.post(path, order), 409, "cannot_move")
    await team.running(cluster, "third", required_gpu_count=1)
    await team.running(cluster, "fourth", required_gpu_count=1, preemptible=False)
    order = {"deployment_id": first["id"], "node_id": other}
    refused(await team.admin.post(path, order), 409, "cannot_move")
    assert (await team.get(first))["state"] == "RUNNING"
    refused(await team.outsider.get(below(cluster, "fragmentation")), 404, "cluster_not_found")
