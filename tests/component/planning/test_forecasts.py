"""The dry run over HTTP: its forecast, that it writes nothing, and that the forecast comes true."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from hypervisor.store.tables import Deployment, EngineState, Event
from tests.support.api import ok, refused
from tests.support.teams import Team, team_at_rest

PLAN = "/api/v1/deployments/plan"


@pytest.fixture
async def team(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Team]:
    async with team_at_rest(database_url, tmp_path / "data", monkeypatch) as created:
        yield created


async def planned(team: Team, **fields: Any) -> dict[str, Any]:
    answer: dict[str, Any] = ok(await team.developer.post(PLAN, {"name": "work", **fields}))
    return answer


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_a_request_that_fits_starts_on_the_forecast_node_and_nothing_is_written(team: Team) -> None:
    cluster = await team.cluster()
    forecast = await planned(team, required_gpu_count=1)
    assert (forecast["outcome"], forecast["node"], forecast["queue_position"]) == ("fits_now", "node-1", None)
    now = team.api.clock.now()
    assert (
        moment(forecast["estimated_start"]["earliest"])
        == moment(forecast["estimated_start"]["latest"])
        == now
    )
    async with team.api.services.database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Deployment)) == 0
        about = select(func.count()).select_from(Event).where(Event.deployment_id.is_not(None))
        assert await session.scalar(about) == 0
    run = await team.running(cluster, "work", required_gpu_count=1)
    assert (run["node_name"], run["gpu_indices"]) == ("node-1", forecast["gpu_indices"])


async def test_a_cordoned_engine_is_no_forecast_node(team: Team) -> None:
    cluster = await team.cluster()
    now = team.api.clock.now()
    async with team.api.services.database.write() as session:
        closed = {"runtime": "simulated", "endpoint": None, "cordoned_since": now}
        session.add(EngineState(name="engine simulated", **closed))
    forecast = await planned(team, required_gpu_count=1)
    assert forecast["outcome"] != "fits_now"
    assert forecast["reason"]["code"] == "no_schedulable_node"
    waiting = await team.submit("waiting", cluster_id=cluster["id"])
    why = ok(await team.viewer.get(f"/api/v1/deployments/{waiting['id']}/explain"))
    assert why["reason"]["code"] == "no_schedulable_node"


async def test_victims_are_named_with_what_they_would_lose(team: Team) -> None:
    cluster = await team.cluster(total_gpu_count=1)
    low = await team.running(cluster, "low", priority="LOW", required_gpu_count=1, grace_period_seconds=20)
    team.api.clock.advance(300)
    forecast = await planned(team, required_gpu_count=1, priority="HIGH")
    assert forecast["outcome"] == "preempts"
    (victim,) = forecast["victims"]
    assert (victim["id"], victim["name"], victim["priority"]) == (low["id"], "low", 100)
    assert victim["lost_work_seconds"] == 300
    latest = moment(forecast["estimated_start"]["latest"]) - team.api.clock.now()
    assert timedelta(seconds=20) <= latest <= timedelta(seconds=30)
    assert "low" in forecast["sentence"]
    created = await team.submit("work", cluster_id=cluster["id"], required_gpu_count=1, priority="HIGH")
    await team.schedule(cluster)
    assert (await team.get(low))["state"] == "STOPPING"
    assert (await team.get(created))["reason_code"] != "insufficient_gpu"


async def test_past_runs_and_queue_say_when_it_would_start(team: Team) -> None:
    cluster = await team.cluster()
    for number, seconds in enumerate((100, 200, 300)):
        past = await team.running(cluster, f"past-{number}", kind="job")
        team.api.clock.advance(seconds)
        await team.report(past, exit_code=0)
    await team.running(cluster, "busy", kind="job", required_cpu_cores=4)
    await team.submit("ahead", kind="job", required_cpu_cores=4)
    forecast = await planned(team, kind="job", required_cpu_cores=4)
    assert (forecast["outcome"], forecast["queue_position"]) == ("waits", 2)
    now, start = team.api.clock.now(), forecast["estimated_start"]
    assert moment(start["earliest"]) == now + timedelta(seconds=400)
    assert moment(start["latest"]) == now + timedelta(seconds=600)
    assert "3 finished runs" in start["how"]
    assert [each["name"] for each in start["after"]] == ["ahead"]
    assert forecast["suggestion"]["kind"] == "raise_priority"
    assert forecast["reason"]["code"] == "insufficient_cpu"


async def test_a_suggested_smaller_request_does_start(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "busy", required_cpu_cores=1, priority="CRITICAL")
    forecast = await planned(team, required_cpu_cores=4, kind="job")
    assert forecast["suggestion"] == {
        "kind": "lower_request",
        "sentence": "request 3 CPU cores instead of 4 CPU cores",
        "changes": {"required_cpu_cores": 3.0},
    }
    assert forecast["estimated_start"]["earliest"] is None
    assert "until they are stopped" in forecast["estimated_start"]["how"]
    assert (await planned(team, kind="job", **forecast["suggestion"]["changes"]))["outcome"] == "fits_now"


async def test_a_request_that_can_never_run_is_an_outcome_and_no_error(team: Team) -> None:
    await team.cluster()
    forecast = await planned(team, required_cpu_cores=64)
    assert (forecast["outcome"], forecast["estimated_start"]["earliest"]) == ("never", None)
    assert forecast["suggestion"]["kind"] == "change"
    assert "node-1" in forecast["sentence"]


async def test_unmet_dependencies_are_named_beside_the_outcome(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "parent", kind="job")
    forecast = await planned(team, depends_on=["parent"])
    assert forecast["outcome"] == "fits_now"
    assert "parent" in forecast["blocked_by"]
    refused(
        await team.developer.post(PLAN, {"name": "x", "depends_on": ["nobody"]}), 404, "deployment_not_found"
    )


async def test_only_callers_who_may_submit_may_plan(team: Team) -> None:
    cluster = await team.cluster()
    body = {"name": "x", "cluster_id": cluster["id"]}
    refused(await team.outsider.post(PLAN, body), 404, "cluster_not_found")
    refused(await team.viewer.post(PLAN, body), 403, "role_too_low")
