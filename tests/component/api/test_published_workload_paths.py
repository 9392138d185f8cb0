"""Every published path of clusters and deployments works, with all its aliases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.component.api.test_published_paths import everywhere
from tests.support.api import ok
from tests.support.teams import Team, team_at_rest

SIZE = {"total_ram_gb": 8, "total_cpu_cores": 4, "total_gpu_count": 1}


@pytest.fixture
async def team(sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    async with team_at_rest(sqlite_url, tmp_path / "data", monkeypatch) as created:
        yield created


def below(path: str, *parts: object) -> str:
    """A path below a published one, with a slash at its end where that has one."""
    slash = "/" if path.endswith("/") else ""
    return "/".join((path.rstrip("/"), *map(str, parts))) + slash


async def test_clusters(team: Team) -> None:
    for number, path in enumerate(everywhere("/clusters", "/cluster")):
        created = ok(await team.admin.post(path, {"name": f"c{number}", **SIZE}), 201)
        one = below(path, created["id"])
        assert ok(await team.viewer.get(one))["total_ram_gb"] == 8
        assert created["id"] in [item["id"] for item in ok(await team.viewer.get(path))["items"]]
        assert ok(await team.admin.call("PUT", one, json={"total_ram_gb": 16}))["total_ram_gb"] == 16
        assert ok(await team.admin.patch(one, {"name": f"renamed-{number}"}))["name"] == f"renamed-{number}"
        nodes = below(path, created["id"], "nodes")
        node = ok(await team.admin.post(nodes, {"name": "extra", "cpu_cores": 1, "ram_gb": 1}), 201)
        assert len(ok(await team.viewer.get(nodes))["items"]) == 2
        for command in ("cordon", "uncordon", "drain"):
            ok(await team.admin.post(below(nodes, node["id"], command)))
        ok(await team.admin.delete(below(nodes, node["id"])), 204)
        ok(await team.admin.delete(one), 204)


async def test_deployments(team: Team) -> None:
    cluster = await team.cluster()
    for path in everywhere("/deployments", "/deployment"):
        body = {
            "name": "web",
            "docker_image": "nginx:latest",
            "cluster_id": cluster["id"],
            "required_ram_gb": 1,
            "required_cpu_cores": 1,
            "required_gpu_count": 0,
            "priority": "HIGH",
        }
        created = ok(await team.developer.post(path, body), 201)
        assert created["status"] == "QUEUED"
        one = below(path, created["id"])
        assert ok(await team.viewer.get(one))["priority_label"] == "HIGH"
        assert ok(await team.viewer.get(path))["items"][0]["id"] == created["id"]
        assert ok(await team.developer.call("PUT", one, json={"priority": 10}))["priority"] == 10
        assert ok(await team.developer.patch(one, {"priority": "LOW"}))["priority"] == 100
        for part in ("events", "attempts", "explain"):
            ok(await team.viewer.get(below(one, part)))
        assert (await team.viewer.get(below(one, "logs"))).text == ""
        assert ok(await team.developer.post(below(one, "cancel")))["status"] == "CANCELLED"
        assert ok(await team.developer.post(below(one, "start")))["status"] == "QUEUED"
        assert (await team.developer.post(below(one, "stop"))).status_code == 409
        batch = {"deployments": [body]}
        assert len(ok(await team.developer.post(below(path, "batch"), batch), 201)["items"]) == 1
        ok(await team.developer.delete(one), 204)


@pytest.mark.parametrize("path", everywhere("/organizations/{id}/events", "/organization/{id}/events"))
async def test_events(team: Team, path: str) -> None:
    await team.cluster()
    types = [item["type"] for item in ok(await team.viewer.get(path.format(id=team.id)))["items"]]
    assert types[-1] == "cluster.created"
