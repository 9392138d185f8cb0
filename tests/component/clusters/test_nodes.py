"""Nodes: addition, resizing, cordon, drain and removal, without loss of work."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from hypervisor.store.tables import Allocation, Node, NodeGpu
from tests.support.api import ok, refused
from tests.support.teams import Team


def nodes_path(cluster: dict[str, Any], node: int | None = None) -> str:
    path = f"/api/v1/clusters/{cluster['id']}/nodes"
    return path if node is None else f"{path}/{cluster['nodes'][node]['id']}"


async def two_nodes(team: Team) -> dict[str, Any]:
    """Two nodes of 2 cores, 4 GB and 2 GPUs that deployments can choose by the label "which"."""
    size = {"cpu_cores": 2, "ram_gb": 4, "gpu_count": 2}
    return await team.cluster(
        nodes=[{"name": name, **size, "labels": {"which": name}} for name in ("left", "right")]
    )


async def test_nodes_are_added_one_by_one_or_several_at_once(team: Team) -> None:
    cluster = await team.cluster()
    path = nodes_path(cluster)
    one = ok(await team.admin.post(path, {"name": "extra", "cpu_cores": 1, "ram_gb": 1, "gpu_count": 1}), 201)
    assert one["gpus"] == [{"index": 0, "used": 0}]
    many = ok(await team.admin.post(path, {"name": "n", "count": 3, "cpu_cores": 1, "ram_gb": 1}), 201)
    assert [node["name"] for node in many["items"]] == ["n-1", "n-2", "n-3"]
    refused(await team.admin.post(path, {"name": "n-2", "cpu_cores": 1, "ram_gb": 1}), 409, "node_name_taken")
    page = ok(await team.viewer.get(f"{path}?limit=3"))
    rest = ok(await team.viewer.get(f"{path}?limit=3&cursor={page['next_cursor']}"))
    names = [node["name"] for node in [*page["items"], *rest["items"]]]
    assert names == ["node-1", "extra", "n-1", "n-2", "n-3"]
    assert rest["next_cursor"] is None
    assert ok(await team.viewer.get(f"{path}/{one['id']}"))["name"] == "extra"


async def test_a_node_is_found_only_in_its_own_cluster(team: Team) -> None:
    own, other = await team.cluster(), await team.cluster()
    wrong = f"/api/v1/clusters/{other['id']}/nodes/{own['nodes'][0]['id']}"
    refused(await team.admin.get(wrong), 404, "node_not_found")
    refused(await team.admin.delete(wrong), 404, "node_not_found")
    refused(await team.outsider.get(nodes_path(own, 0)), 404, "cluster_not_found")


async def test_a_growing_node_gets_more_devices(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "a", required_gpu_count=2)
    grown = ok(await team.admin.patch(nodes_path(cluster, 0), {"cpu_cores": 8, "ram_gb": 16, "gpu_count": 4}))
    assert grown["capacity"] == {"cpu_cores": 8, "ram_gb": 16, "gpu_count": 4}
    assert [gpu["used"] for gpu in grown["gpus"]] == [1, 1, 0, 0]
    shrunk = ok(await team.admin.patch(nodes_path(cluster, 0), {"gpu_count": 2}))
    assert [gpu["index"] for gpu in shrunk["gpus"]] == [0, 1]
    assert shrunk["status"] == "ready"


async def test_labels_and_model_change_without_touching_the_size(team: Team) -> None:
    cluster = await team.cluster()
    body = {"labels": {"zone": "b"}, "gpu_model": "H100"}
    changed = ok(await team.admin.call("PUT", nodes_path(cluster, 0), json=body))
    assert (changed["labels"], changed["gpu_model"]) == ({"zone": "b"}, "H100")
    assert changed["capacity"] == cluster["nodes"][0]["capacity"]


async def test_a_forced_shrink_drains_the_least_important_and_then_takes_effect(team: Team) -> None:
    cluster = await team.cluster()
    high = await team.running(cluster, "high", priority="HIGH", required_cpu_cores=2)
    low = await team.running(cluster, "low", priority="LOW", required_cpu_cores=2)
    path = nodes_path(cluster, 0)
    problem = refused(await team.admin.patch(path, {"cpu_cores": 2.5}), 409, "shrink_below_allocated")
    assert problem["shortfall"] == {"cpu_cores": 1.5, "ram_gb": 0, "gpu_count": 0}
    node = ok(await team.admin.call("PATCH", f"{path}?force=true", json={"cpu_cores": 2.5, "ram_gb": 16}))
    assert node["status"] == "shrinking"
    assert node["shrinking_to"]["cpu_cores"] == 2.5
    assert node["capacity"] == {"cpu_cores": 4, "ram_gb": 16, "gpu_count": 2}
    victim = await team.get(low)
    assert (victim["state"], victim["state_after_stop"], victim["reason_code"]) == (
        "STOPPING",
        "QUEUED",
        "drained",
    )
    assert (await team.get(high))["state"] == "RUNNING"
    await team.report(low, exit_code=143)
    node = ok(await team.viewer.get(path))
    assert (node["status"], node["capacity"]["cpu_cores"]) == ("ready", 2.5)
    assert (await team.get(low))["state"] == "QUEUED"


async def test_a_forced_shrink_of_gpus_evicts_the_users_of_the_last_devices(team: Team) -> None:
    cluster = await team.cluster(total_gpu_count=3)
    users = [await team.running(cluster, name, required_gpu_count=1) for name in ("a", "b", "c")]
    last = next(one for one in users if one["gpu_indices"] == [2])
    await team.report(last, exit_code=0)
    first = next(one for one in users if one["gpu_indices"] == [0])
    path = nodes_path(cluster, 0)
    problem = refused(await team.admin.patch(path, {"gpu_count": 1}), 409, "shrink_below_allocated")
    assert problem["shortfall"]["gpu_count"] == 1
    node = ok(await team.admin.call("PATCH", f"{path}?force=true", json={"gpu_count": 1}))
    # Device 2 is free and removed at once; device 1 is removed when its user has ended.
    assert [gpu["index"] for gpu in node["gpus"]] == [0, 1]
    assert (await team.get(first))["state"] == "RUNNING"
    (leaving,) = [one for one in users if one["gpu_indices"] == [1]]
    await team.report(leaving, exit_code=143)
    assert [gpu["index"] for gpu in ok(await team.viewer.get(path))["gpus"]] == [0]


async def test_a_cordoned_node_accepts_no_new_work(team: Team) -> None:
    cluster = await two_nodes(team)
    old = await team.running(cluster, "old", node_selector={"which": "left"})
    node = ok(await team.admin.post(f"{nodes_path(cluster, 0)}/cordon"))
    assert (node["cordoned"], node["status"]) == (True, "cordoned")
    new = await team.submit("new", cluster_id=cluster["id"], node_selector={"which": "left"})
    await team.schedule(cluster)
    assert (await team.get(new))["state"] == "QUEUED"
    assert (await team.get(old))["state"] == "RUNNING"
    assert ok(await team.admin.post(f"{nodes_path(cluster, 0)}/uncordon"))["status"] == "ready"
    await team.schedule(cluster)
    assert (await team.get(new))["state"] == "STARTING"


async def test_drained_work_keeps_its_queue_position_and_moves_to_other_nodes(team: Team) -> None:
    cluster = await two_nodes(team)
    moved = await team.running(cluster, "moved", required_cpu_cores=2)
    side = 0 if moved["node_name"] == "left" else 1
    for _ in range(2):
        node = ok(await team.admin.post(f"{nodes_path(cluster, side)}/drain"))
        assert (node["draining"], node["status"]) == (True, "draining")
    assert (await team.get(moved))["state_after_stop"] == "QUEUED"
    drains = [e for e in await team.events(moved) if e["code"] == "drained"]
    assert len(drains) == 1
    assert drains[0]["actor"] == f"user:{team.admin.id}"
    await team.report(moved, exit_code=143)
    again = await team.get(moved)
    assert (again["state"], again["created_at"]) == ("QUEUED", moved["created_at"])
    await team.schedule(cluster)
    assert (await team.get(moved))["node_name"] != moved["node_name"]
    node = ok(await team.admin.post(f"{nodes_path(cluster, side)}/uncordon"))
    assert (node["draining"], node["status"]) == (False, "ready")


async def test_a_node_in_use_is_removed_only_by_force_and_after_its_work_has_ended(team: Team) -> None:
    cluster = await two_nodes(team)
    work = await team.running(cluster, "work", node_selector={"which": "right"}, required_gpu_count=1)
    problem = refused(await team.admin.delete(nodes_path(cluster, 1)), 409, "node_in_use")
    assert problem["deployments"] == [work["id"]]
    assert (await team.admin.delete(f"{nodes_path(cluster, 1)}?force=true")).status_code == 202
    assert ok(await team.viewer.get(nodes_path(cluster, 1)))["status"] == "deleting"
    refused(await team.admin.patch(nodes_path(cluster, 1), {"cpu_cores": 8}), 409, "node_deleting")
    await team.clean_up()
    assert ok(await team.viewer.get(nodes_path(cluster, 1)))["status"] == "deleting"
    await team.report(work, exit_code=143)
    await team.clean_up()
    refused(await team.viewer.get(nodes_path(cluster, 1)), 404, "node_not_found")
    assert (await team.admin.delete(nodes_path(cluster, 0))).status_code == 204
    async with team.api.services.database.read() as session:
        assert (await session.scalars(select(Node))).all() == []
        assert (await session.scalars(select(NodeGpu))).all() == []
        assert (await session.scalars(select(Allocation))).all() == []


async def test_a_drained_node_that_waiting_work_needs_is_removed_only_by_force(team: Team) -> None:
    cluster = await two_nodes(team)
    right = {"node_selector": {"which": "right"}}
    names = [f"work-{number}" for number in range(4)]
    bound = [await team.submit(name, cluster_id=cluster["id"], **right) for name in names]
    blocked = await team.submit("blocked", cluster_id=cluster["id"], depends_on=["work-0"], **right)
    free = await team.submit("free", cluster_id=cluster["id"])
    ok(await team.admin.post(f"{nodes_path(cluster, 1)}/drain"))
    problem = refused(await team.admin.delete(nodes_path(cluster, 1)), 409, "node_needed")
    assert problem["deployments"] == [one["id"] for one in (*bound, blocked)]
    assert f"work-0 ({bound[0]['id']}, QUEUED)" in problem["detail"]
    assert f"blocked ({blocked['id']}, BLOCKED)" in problem["detail"]
    assert ok(await team.viewer.get(nodes_path(cluster, 1)))["status"] == "draining"
    assert (await team.admin.delete(f"{nodes_path(cluster, 1)}?force=true")).status_code == 204
    await team.schedule(cluster)
    assert [(await team.get(one))["state"] for one in (bound[0], free)] == ["QUEUED", "STARTING"]


@pytest.mark.parametrize(
    "needed",
    [
        {"required_gpu_count": 2},
        {"required_ram_gb": 16},
        {"required_cpu_cores": 8},
        {"gpu_models": ["A100"], "required_gpu_count": 1},
        {"replicas": 2, "required_cpu_cores": 5},
    ],
    ids=lambda needed: next(iter(needed)),
)
async def test_every_limit_binds_waiting_work_to_a_node(team: Team, needed: dict[str, Any]) -> None:
    large = {"cpu_cores": 10, "ram_gb": 16, "gpu_count": 2, "gpu_model": "A100"}
    nodes = [{"name": "small", "cpu_cores": 4, "ram_gb": 4, "gpu_count": 1}, {"name": "large", **large}]
    cluster = await team.cluster(nodes=nodes)
    waiting = await team.submit("waiting", **needed)
    problem = refused(await team.admin.delete(nodes_path(cluster, 1)), 409, "node_needed")
    assert problem["deployments"] == [waiting["id"]]
    smaller = {"cpu_cores": 4, "ram_gb": 4, "gpu_count": 0}
    refused(await team.admin.patch(nodes_path(cluster, 1), smaller), 409, "node_needed")
    assert (await team.admin.delete(nodes_path(cluster, 0))).status_code == 204
    assert ok(await team.viewer.get(nodes_path(cluster, 1)))["capacity"]["cpu_cores"] == 10


async def test_the_last_node_is_needed_by_everything_that_waits(team: Team) -> None:
    cluster = await team.cluster()
    waiting = await team.submit("waiting")
    refused(await team.admin.delete(nodes_path(cluster, 0)), 409, "node_needed")
    await team.command(waiting, "cancel")
    assert (await team.admin.delete(nodes_path(cluster, 0))).status_code == 204


async def test_node_changes_are_events_and_viewers_cannot_make_them(team: Team) -> None:
    cluster = await team.cluster()
    path = nodes_path(cluster, 0)
    for call in (
        team.developer.post(f"{path}/drain"),
        team.developer.post(f"{path}/cordon"),
        team.developer.patch(path, {"cpu_cores": 1}),
        team.developer.delete(path),
    ):
        refused(await call, 403, "role_too_low")
    await team.admin.patch(path, {"cpu_cores": 5})
    await team.admin.post(f"{path}/cordon")
    await team.admin.post(f"{path}/uncordon")
    await team.admin.post(f"{path}/drain")
    await team.admin.delete(path)
    events = ok(await team.viewer.get(f"/api/v1/organizations/{team.id}/events?limit=100"))["items"]
    assert [event["type"] for event in events if event["type"].startswith("node.")] == [
        "node.updated",
        "node.cordoned",
        "node.uncordoned",
        "node.draining",
        "node.deleted",
    ]
