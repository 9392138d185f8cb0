"""Clusters: creation, reads, changes and deletion, with permissions."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from hypervisor.control.maintenance import deletions
from hypervisor.runtimes.kinds import runtime_choices
from hypervisor.scheduling.repacking.solvers import is_installed, solver_names
from hypervisor.scheduling.scoring.registry import PLACEMENT_POLICIES, policy_names
from hypervisor.store import batches, removals
from tests.support.api import ok, refused
from tests.support.teams import Team

CLUSTERS = "/api/v1/clusters"


def amounts(cpu: float, ram: float, gpus: float) -> dict[str, float]:
    return {"cpu_cores": cpu, "ram_gb": ram, "gpu_count": gpus}


async def test_totals_create_one_node_of_that_size(team: Team) -> None:
    body = {"name": "lab", "runtime": "simulated", "total_cpu_cores": 4, "total_ram_gb": 8.5}
    created = ok(await team.admin.post(CLUSTERS, {**body, "total_gpu_count": 2, "gpu_model": "A100"}), 201)
    assert created["organization_id"] == team.id
    assert created["capacity"] == created["available"] == amounts(4, 8.5, 2)
    assert created["allocated"] == amounts(0, 0, 0)
    assert (created["total_cpu_cores"], created["total_ram_gb"], created["total_gpu_count"]) == (4, 8.5, 2)
    (node,) = created["nodes"]
    assert (node["name"], node["gpu_model"], node["status"]) == ("node-1", "A100", "ready")
    assert node["gpus"] == [{"index": 0, "used": 0}, {"index": 1, "used": 0}]


async def test_nodes_are_created_as_listed(team: Team) -> None:
    nodes = [
        {"name": "big", "cpu_cores": 8, "ram_gb": 16, "gpu_count": 4, "labels": {"zone": "a"}},
        {"name": "small", "count": 3, "cpu_cores": 0.5, "ram_gb": 1},
    ]
    created = await team.cluster(nodes=nodes)
    assert [node["name"] for node in created["nodes"]] == ["big", "small-1", "small-2", "small-3"]
    assert created["nodes"][0]["labels"] == {"zone": "a"}
    assert created["capacity"] == amounts(9.5, 19, 4)
    assert created["node_count"] == 4


async def test_auto_without_an_engine_has_a_note_that_nothing_really_runs(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = type(team.api.services.runtimes)

    async def no_engine(self: Any, choice: str) -> str:
        return "simulated" if choice == "auto" else choice

    monkeypatch.setattr(registry, "resolve", no_engine)
    created = await team.cluster(runtime="auto")
    assert (created["runtime"], created["resolved_runtime"]) == ("auto", "simulated")
    assert "no workload runs" in created["runtime_note"]


async def test_impossible_amounts_are_refused(team: Team) -> None:
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {team.admin.access_token}",
    }
    for field, other in (("total_cpu_cores", "total_ram_gb"), ("total_ram_gb", "total_cpu_cores")):
        for value in ("-1", "NaN", "Infinity", "-Infinity", "1e300", "9007199254740993", '"4"', "true"):
            body = f'{{"name": "x", "{other}": 1, "{field}": {value}}}'
            problem = refused(
                await team.api.http.post(CLUSTERS, content=body, headers=headers), 422, "invalid_request"
            )
            assert field in problem["detail"], value


async def test_ambiguous_requests_are_refused(team: Team) -> None:
    size = {"total_cpu_cores": 1, "total_ram_gb": 1}
    node = {"name": "a", "cpu_cores": 1, "ram_gb": 1}
    wrong: list[dict[str, object]] = [
        {},
        {"total_cpu_cores": 1},
        {**size, "nodes": [node]},
        {"nodes": []},
        {"nodes": [{**node, "gpu_count": 65}]},
        {"nodes": [node, node]},
        {"nodes": [{**node, "count": 10_000}, {**node, "name": "b"}]},
        {**size, "runtime": "kubernetes"},
        {**size, "owner": "me"},
        {**size, "name": "zero\0"},
        {**size, "preemption_window_seconds": 0},
    ]
    for fields in wrong:
        refused(await team.admin.post(CLUSTERS, {"name": "x", **fields}), 422, "invalid_request")


async def test_engine_endpoints_are_checked(team: Team) -> None:
    for endpoint in ("http://169.254.169.254", "unix://relative", "tcp://", "ssh://host", "tcp://a b"):
        node = {"name": "a", "cpu_cores": 1, "ram_gb": 1, "engine_endpoint": endpoint}
        body = {"name": "x", "runtime": "docker", "nodes": [node]}
        refused(await team.admin.post(CLUSTERS, body), 422, "invalid_request")


async def test_engine_endpoints_are_for_docker(team: Team) -> None:
    node = {"name": "a", "cpu_cores": 1, "ram_gb": 1, "engine_endpoint": "tcp://10.0.0.5:2375"}
    body = {"name": "x", "runtime": "simulated", "nodes": [node]}
    refused(await team.admin.post(CLUSTERS, body), 422, "engine_endpoint_without_docker")
    created = ok(await team.admin.post(CLUSTERS, {**body, "runtime": "docker"}), 201)
    assert created["nodes"][0]["engine_endpoint"] == "tcp://10.0.0.5:2375"


async def test_a_name_is_unique_in_an_organization(team: Team) -> None:
    created = await team.cluster(name="lab")
    body = {"name": "lab", "total_cpu_cores": 1, "total_ram_gb": 1}
    refused(await team.admin.post(CLUSTERS, body), 409, "cluster_name_taken")
    ok(await team.outsider.post(CLUSTERS, body), 201)
    other = await team.cluster(name="other")
    refused(await team.admin.patch(f"{CLUSTERS}/{other['id']}", {"name": "lab"}), 409, "cluster_name_taken")
    assert ok(await team.admin.patch(f"{CLUSTERS}/{created['id']}", {"name": "lab"}))["name"] == "lab"


async def test_admins_change_clusters_and_only_members_see_them(team: Team) -> None:
    created = await team.cluster()
    path = f"{CLUSTERS}/{created['id']}"
    for person in (team.developer, team.viewer):
        assert ok(await person.get(path))["name"] == created["name"]
        refused(await person.patch(path, {"name": "mine"}), 403, "role_too_low")
        refused(await person.delete(path), 403, "role_too_low")
        body = {"name": "own", "organization_id": team.id, "total_cpu_cores": 1, "total_ram_gb": 1}
        refused(await person.post(CLUSTERS, body), 403, "role_too_low")
        refused(
            await person.post(f"{path}/nodes", {"name": "n", "cpu_cores": 1, "ram_gb": 1}),
            403,
            "role_too_low",
        )
    unknown = (await team.outsider.get(f"{CLUSTERS}/999999")).json()
    for answer in (
        await team.outsider.get(path),
        await team.outsider.patch(path, {"name": "mine"}),
        await team.outsider.delete(path),
        await team.outsider.get(f"{path}/nodes"),
    ):
        problem = refused(answer, 404, "cluster_not_found")
        assert problem["detail"].replace(str(created["id"]), "999999") == unknown["detail"]
    assert ok(await (await team.api.superuser()).get(path))["id"] == created["id"]
    assert (await team.api.http.get(path)).status_code == 401


async def test_lists_show_the_callers_organizations_page_by_page(team: Team) -> None:
    created = [(await team.cluster())["id"] for _ in range(5)]
    foreign = {"name": "theirs", "total_cpu_cores": 1, "total_ram_gb": 1}
    other = ok(await team.outsider.post(CLUSTERS, foreign), 201)
    seen: list[int] = []
    cursor = ""
    while True:
        page = ok(await team.viewer.get(f"{CLUSTERS}?limit=2{cursor}"))
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == created
    assert [c["id"] for c in ok(await team.outsider.get(CLUSTERS))["items"]] == [other["id"]]
    refused(await team.outsider.get(f"{CLUSTERS}?organization_id={team.id}"), 404, "organization_not_found")
    everything = ok(await (await team.api.superuser()).get(f"{CLUSTERS}?brief=true"))["items"]
    assert {c["id"] for c in everything} == {*created, other["id"]}
    assert everything[0]["nodes"] is None


async def test_amounts_follow_running_work(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "a", required_cpu_cores=1.5, required_ram_gb=2, required_gpu_count=1)
    await team.running(cluster, "b", required_cpu_cores=0.5, required_ram_gb=1, required_gpu_count=0.5)
    seen = ok(await team.viewer.get(f"{CLUSTERS}/{cluster['id']}"))
    assert seen["allocated"] == amounts(2, 3, 1.5)
    assert seen["available"] == amounts(2, 5, 0.5)
    assert sorted(gpu["used"] for gpu in seen["nodes"][0]["gpus"]) == [0.5, 1]


async def test_settings_are_changed_by_put_and_patch_alike(team: Team) -> None:
    cluster = await team.cluster()
    path = f"{CLUSTERS}/{cluster['id']}"
    changed = ok(await team.admin.patch(path, {"placement_policy": "spread", "preemption": False}))
    assert (changed["placement_policy"], changed["preemption"], changed["name"]) == (
        "spread",
        False,
        cluster["name"],
    )
    changed = ok(await team.admin.call("PUT", path, json={"min_runtime_seconds": 60}))
    assert (changed["placement_policy"], changed["min_runtime_seconds"]) == ("spread", 60)
    assert changed["optimizer_steps"] == 0
    changed = ok(await team.admin.patch(path, {"optimizer_steps": 20_000}))
    assert changed["optimizer_steps"] == 20_000
    refused(await team.admin.patch(path, {"optimizer_steps": -1}), 422, "invalid_request")
    problem = refused(await team.admin.patch(path, {"preemption_window_seconds": 0}), 422, "invalid_request")
    assert "preemption_window_seconds" in str(problem)


async def test_a_solver_is_accepted_only_where_it_is_installed(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")
    cluster = await team.cluster()
    path = f"{CLUSTERS}/{cluster['id']}"
    assert cluster["solver"] == "search"
    assert ok(await team.admin.patch(path, {"solver": "exact"}))["solver"] == "exact"
    refused(await team.admin.patch(path, {"solver": "best"}), 422, "invalid_request")
    monkeypatch.setitem(sys.modules, "ortools", None)
    problem = refused(await team.admin.patch(path, {"solver": "exact"}), 422, "solver_not_installed")
    assert "pip install ortools, or the extra `optimal` of this package" in problem["detail"]
    assert ok(await team.admin.patch(path, {"optimizer_steps": 100}))["solver"] == "exact"
    assert ok(await team.admin.patch(path, {"solver": "search"}))["solver"] == "search"


async def test_a_solver_without_steps_has_some(team: Team) -> None:
    pytest.importorskip("ortools", reason="OR-tools is not installed (the extra `optimal`)")
    assert (await team.cluster(name="new", solver="exact"))["optimizer_steps"] == 20_000
    assert (await team.cluster(name="few", solver="exact", optimizer_steps=100))["optimizer_steps"] == 100
    assert (await team.cluster(name="off", solver="exact", optimizer_steps=0))["optimizer_steps"] == 0
    cluster = await team.cluster(name="search", solver="search")
    assert cluster["optimizer_steps"] == 0
    path = f"{CLUSTERS}/{cluster['id']}"
    changed = ok(await team.admin.patch(path, {"solver": "exact"}))
    assert changed["optimizer_steps"] == 20_000
    assert ok(await team.admin.patch(path, {"optimizer_steps": 0}))["optimizer_steps"] == 0
    assert ok(await team.admin.patch(path, {"name": "renamed"}))["optimizer_steps"] == 0


async def test_every_placement_policy_places(team: Team) -> None:
    for name in policy_names():
        cluster = await team.cluster(name=name, placement_policy=name)
        assert cluster["placement_policy"] == name
        await team.running(cluster, name, required_cpu_cores=1, required_ram_gb=1, required_gpu_count=0.5)


async def test_a_policy_needs_no_more_than_its_line_in_the_registry(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"runtime": "simulated", "total_cpu_cores": 4, "total_ram_gb": 8}
    answer = await team.admin.post(CLUSTERS, {"name": "early", "placement_policy": "first_fit", **size})
    assert "fgd, fill, bestfit or spread" in str(refused(answer, 422, "invalid_request"))
    monkeypatch.setitem(PLACEMENT_POLICIES, "first_fit", "tests.support.first_fit")
    cluster = await team.cluster(
        placement_policy="first_fit", nodes=[{"name": "n", "count": 3, "cpu_cores": 4, "ram_gb": 8}]
    )
    assert cluster["placement_policy"] == "first_fit"
    placed = await team.running(cluster, "a", required_cpu_cores=1, required_ram_gb=1)
    assert placed["node_name"] == "n-1"


async def test_every_solver_has_a_name_that_clusters_accept(team: Team) -> None:
    cluster = await team.cluster()
    for name in filter(is_installed, solver_names()):
        changed = await team.admin.patch(f"{CLUSTERS}/{cluster['id']}", {"solver": name})
        assert ok(changed)["solver"] == name


async def test_the_schema_lists_the_registered_names(team: Team) -> None:
    schemas = ok(await team.admin.get("/openapi.json"))["components"]["schemas"]
    fields = schemas["ClusterCreate"]["properties"]
    (runtime, _null) = fields["runtime"]["anyOf"]
    assert runtime["enum"] == list(runtime_choices())
    assert fields["placement_policy"]["enum"] == list(policy_names())
    assert fields["solver"]["enum"] == list(solver_names())


async def test_totals_resize_only_a_cluster_of_one_node(team: Team) -> None:
    one = await team.cluster()
    grown = ok(
        await team.admin.patch(f"{CLUSTERS}/{one['id']}", {"total_cpu_cores": 6, "total_gpu_count": 3})
    )
    assert grown["capacity"] == amounts(6, 8, 3)
    several = await team.cluster(nodes=[{"name": "n", "count": 2, "cpu_cores": 1, "ram_gb": 1}])
    answer = await team.admin.patch(f"{CLUSTERS}/{several['id']}", {"total_cpu_cores": 6})
    assert "2 nodes" in refused(answer, 422, "several_nodes")["detail"]


async def test_a_shrink_below_the_allocated_amount_is_refused_with_the_shortfall(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "a", required_cpu_cores=3, required_ram_gb=4, required_gpu_count=2)
    answer = await team.admin.patch(
        f"{CLUSTERS}/{cluster['id']}", {"total_cpu_cores": 1.5, "total_ram_gb": 4, "total_gpu_count": 1}
    )
    assert refused(answer, 409, "shrink_below_allocated")["shortfall"] == amounts(1.5, 0, 1)
    assert ok(await team.viewer.get(f"{CLUSTERS}/{cluster['id']}"))["capacity"] == amounts(4, 8, 2)


async def test_delete_is_refused_while_deployments_are_live_or_waiting(team: Team) -> None:
    cluster = await team.cluster()
    live = await team.running(cluster, "live")
    waiting = await team.submit("waiting", cluster_id=cluster["id"])
    problem = refused(await team.admin.delete(f"{CLUSTERS}/{cluster['id']}"), 409, "cluster_in_use")
    assert problem["deployments"] == [live["id"], waiting["id"]]
    assert "live" in problem["detail"]
    assert "waiting" in problem["detail"]


async def test_an_unused_cluster_is_deleted_at_once_and_keeps_its_history(team: Team) -> None:
    cluster = await team.cluster()
    done = await team.ended(cluster, "done", 0)
    assert (await team.admin.delete(f"{CLUSTERS}/{cluster['id']}")).status_code == 204
    refused(await team.admin.get(f"{CLUSTERS}/{cluster['id']}"), 404, "cluster_not_found")
    refused(await team.viewer.get(f"/api/v1/deployments/{done['id']}"), 404, "deployment_not_found")
    events = ok(await team.viewer.get(f"/api/v1/organizations/{team.id}/events?limit=100"))["items"]
    types = [event["type"] for event in events if event["cluster_id"] == cluster["id"]]
    assert types[0] == "cluster.created"
    assert types[-1] == "cluster.deleted"


async def test_forced_deletion_stops_cancels_and_waits_for_the_end(team: Team) -> None:
    cluster, elsewhere = await team.cluster(), await team.cluster()
    live = await team.running(cluster, "live")
    waiting = await team.submit("waiting", cluster_id=cluster["id"], depends_on=["live"])
    outside = await team.submit("outside", cluster_id=elsewhere["id"], depends_on=["live"], on_failure="hold")
    path = f"{CLUSTERS}/{cluster['id']}"
    assert (await team.admin.delete(f"{path}?force=true")).status_code == 202
    assert (await team.get(live))["state"] == "STOPPING"
    assert (await team.get(waiting))["state"] == "CANCELLED"
    assert (await team.get(outside))["state"] == "CANCELLED"
    assert ok(await team.viewer.get(path))["status"] == "deleting"
    body = {"name": "late", "cluster_id": cluster["id"]}
    refused(await team.developer.post("/api/v1/deployments", body), 409, "cluster_deleting")
    refused(await team.admin.patch(path, {"name": "new"}), 409, "cluster_deleting")
    refused(await team.developer.post(f"/api/v1/deployments/{waiting['id']}/start"), 409, "cluster_deleting")
    await team.clean_up()
    assert (await team.admin.delete(path)).status_code == 202
    await team.report(live, exit_code=143)
    await team.clean_up()
    refused(await team.admin.get(path), 404, "cluster_not_found")


async def test_a_cluster_is_never_deleted_during_a_submit(team: Team) -> None:
    for _ in range(5):
        cluster = await team.cluster()
        submit = {"name": "work", "cluster_id": cluster["id"]}
        *created, deleted = await asyncio.gather(
            *(team.developer.post("/api/v1/deployments", submit) for _ in range(3)),
            team.admin.delete(f"{CLUSTERS}/{cluster['id']}"),
        )
        accepted = [answer.json()["id"] for answer in created if answer.status_code == 201]
        if deleted.status_code == 204:
            assert accepted == []
            assert {answer.status_code for answer in created} <= {404, 409}
        else:
            refused(deleted, 409, "cluster_in_use")
            for id_ in accepted:
                assert (await team.get(id_))["state"] == "QUEUED"


async def test_a_long_history_is_deleted_in_parts_and_then_the_cluster(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "MAX_ROWS_PER_REQUEST", 6)
    monkeypatch.setattr(deletions, "BATCH_SIZE", 2)
    monkeypatch.setattr(batches, "MAX_BATCHES", 2)
    cluster, elsewhere = await team.cluster(), await team.cluster()
    created = [await team.submit(f"w{number}", cluster_id=cluster["id"]) for number in range(7)]
    outside = await team.submit("outside", cluster_id=elsewhere["id"], depends_on=["w6"], on_failure="hold")
    for each in created:
        await team.command(each, "cancel")
    path = f"{CLUSTERS}/{cluster['id']}"
    assert (await team.admin.delete(path)).status_code == 202
    await team.clean_up()
    left = ok(await team.viewer.get(f"/api/v1/deployments?cluster_id={cluster['id']}"))["items"]
    assert [each["name"] for each in left] == ["w6", "w5", "w4"]
    assert ok(await team.viewer.get(path))["status"] == "deleting"
    await team.clean_up()
    refused(await team.viewer.get(path), 404, "cluster_not_found")
    assert (await team.get(outside))["state"] == "CANCELLED"


async def test_an_organization_with_a_long_history_is_deleted_in_parts(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removals, "MAX_ROWS_PER_REQUEST", 6)
    monkeypatch.setattr(batches, "MAX_BATCHES", 1)
    monkeypatch.setattr(deletions, "BATCH_SIZE", 5)
    cluster = await team.cluster()
    for number in range(7):
        await team.command(await team.submit(f"w{number}", cluster_id=cluster["id"]), "cancel")
    path = f"/api/v1/organizations/{team.id}"
    assert (await team.admin.delete(path)).status_code == 202
    await team.clean_up()
    assert (await team.admin.get(path)).status_code == 200
    await team.clean_up()
    refused(await team.admin.get(path), 404, "organization_not_found")
