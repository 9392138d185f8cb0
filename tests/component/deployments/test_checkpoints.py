"""Checkpoints: permissions, stored data, and lost work since the last one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx2
from sqlalchemy import select

from hypervisor.control.scheduler.snapshot_loader import load_cluster
from hypervisor.infra.security.tokens import AttemptClaims
from hypervisor.store.tables import Attempt
from tests.support.api import ok, refused
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"
DAY = timedelta(hours=24)
SAID = {"progress": 0.4, "step": 100, "message": "epoch 3", "path": "s3://models/run-7/step-100"}


def token_of(team: Team, deployment: dict[str, Any], attempt: int = 1) -> str:
    """The token in the environment of the attempt."""
    claims = AttemptClaims(deployment["id"], attempt)
    return team.api.services.attempt_tokens.issue(claims, DAY, team.api.clock.now())


async def report(team: Team, at: dict[str, Any], token: str, body: Any = SAID) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"}
    return await team.api.http.post(f"{DEPLOYMENTS}/{at['id']}/checkpoint", json=body, headers=headers)


async def attempts(team: Team, deployment: dict[str, Any]) -> list[dict[str, Any]]:
    page = ok(await team.viewer.get(f"{DEPLOYMENTS}/{deployment['id']}/attempts"))
    return list(page["items"])


async def test_a_report_is_stored_and_shown(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    assert (work["checkpoint_at"], work["checkpoint"]) == (None, None)
    team.api.clock.advance(30)
    answer = ok(await report(team, work, token_of(team, work)))
    assert (answer["attempt"], answer["checkpoint"], answer["token"]) == (1, SAID, None)
    seen = await team.get(work)
    assert (seen["checkpoint_at"], seen["checkpoint"]) == (answer["checkpoint_at"], SAID)
    (attempt,) = await attempts(team, work)
    assert (attempt["checkpoint_at"], attempt["checkpoint"]) == (answer["checkpoint_at"], SAID)
    event = (await team.events(work))[-1]
    assert (event["type"], event["actor"]) == ("deployment.checkpoint", "workload")
    assert event["message"] == "has reached 40%, step 100: epoch 3"
    assert event["data"] == {"attempt": 1, **SAID}


async def test_one_report_per_second_is_stored_and_one_event_per_ten_minutes(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    token = token_of(team, work)
    ok(await report(team, work, token, {"step": 1}))
    early = await report(team, work, token, {"step": 2})
    refused(early, 429, "checkpoint_too_soon")
    assert early.headers["Retry-After"] == "1"
    for step in (3, 4):
        team.api.clock.advance(1)
        ok(await report(team, work, token, {"step": step}))
    assert (await team.get(work))["checkpoint"] == {"step": 4}
    team.api.clock.advance(600)
    ok(await report(team, work, token, {}))
    messages = [e["message"] for e in await team.events(work) if e["type"] == "deployment.checkpoint"]
    assert messages == ["has reached step 1", "has a checkpoint"]


async def test_lost_work_counts_from_the_checkpoint(team: Team) -> None:
    cluster = await team.cluster()
    work = await team.running(cluster, "work", priority="LOW", required_cpu_cores=4)
    team.api.clock.advance(1000)
    ok(await report(team, work, token_of(team, work)))
    team.api.clock.advance(10)
    now = team.api.clock.now()
    async with team.api.services.database.read() as session:
        view = await load_cluster(session, cluster["id"], now)
    assert view is not None
    assert list(now.timestamp() - view.snapshot.allocations.work_since) == [10]
    high = await team.submit("high", cluster_id=cluster["id"], priority="HIGH", required_cpu_cores=4)
    await team.schedule(cluster)
    for one in (work, high):
        explained = ok(await team.viewer.get(f"{DEPLOYMENTS}/{one['id']}/explain"))
        (victim,) = explained["receipts"][0]["victims"]
        assert (victim["name"], victim["lost_work_seconds"]) == ("work", 40)


async def test_reports_are_accepted_while_stopping_and_refused_after_the_end(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    token = token_of(team, work)
    await team.command(work, "stop")
    ok(await report(team, work, token))
    await team.report(work, exit_code=0)
    team.api.clock.advance(5)
    refused(await report(team, work, token), 401, "attempt_over")
    ended = f"{DEPLOYMENTS}/{work['id']}/checkpoint"
    refused(await team.developer.post(ended, SAID), 409, "not_running")
    await team.command(work, "start")
    refused(await report(team, work, token), 401, "attempt_over")


async def test_one_replica_reports_for_the_whole_gang(team: Team) -> None:
    cluster = await team.cluster()
    gang = await team.submit("gang", cluster_id=cluster["id"], replicas=2)
    await team.schedule(cluster)
    token = token_of(team, gang)
    ok(await report(team, gang, token))
    refused(await report(team, gang, token), 429, "checkpoint_too_soon")
    async with team.api.services.database.read() as session:
        rows = await session.scalars(select(Attempt).where(Attempt.deployment_id == gang["id"]))
        assert [row.checkpoint for row in rows] == [SAID, SAID]
    events = [e for e in await team.events(gang) if e["type"] == "deployment.checkpoint"]
    assert len(events) == 1


async def test_a_token_is_valid_for_its_own_attempt_only(team: Team) -> None:
    cluster = await team.cluster()
    one = await team.running(cluster, "one")
    other = await team.running(cluster, "other")
    token = token_of(team, one)
    refused(await report(team, other, token), 404, "deployment_not_found")
    refused(await report(team, {"id": 10**6}, token), 404, "deployment_not_found")
    refused(await report(team, one, token_of(team, one, attempt=2)), 401, "attempt_over")
    headers = {"Authorization": f"Bearer {token}"}
    for method, path in (("GET", ""), ("POST", "/stop"), ("GET", "/logs"), ("DELETE", "")):
        answer = await team.api.http.request(method, f"{DEPLOYMENTS}/{one['id']}{path}", headers=headers)
        refused(answer, 401, "invalid_token")
    refused(await team.api.http.get("/api/v1/auth/me", headers=headers), 401, "invalid_token")
    refused(await report(team, one, "nonsense"), 401, "invalid_token")
    team.api.clock.advance(DAY + timedelta(minutes=1))
    refused(await report(team, one, token), 401, "invalid_token")


async def test_a_token_past_half_of_its_life_is_renewed(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    token = token_of(team, work)
    team.api.clock.advance(DAY / 2)
    renewed = ok(await report(team, work, token))["token"]
    team.api.clock.advance(DAY * 0.9)
    ok(await report(team, work, renewed))


async def test_developers_report_viewers_may_not_and_others_get_404(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    path = f"{DEPLOYMENTS}/{work['id']}/checkpoint"
    refused(await team.viewer.post(path, SAID), 403, "role_too_low")
    refused(await team.outsider.post(path, SAID), 404, "deployment_not_found")
    ok(await team.developer.post(path, SAID))
    assert (await team.events(work))[-1]["actor"] == f"user:{team.developer.id}"


async def test_invalid_reports_are_refused(team: Team) -> None:
    work = await team.running(await team.cluster(), "work")
    token = token_of(team, work)
    for body in (
        {"progress": 1.1},
        {"progress": "0.5"},
        {"step": -1},
        {"message": "x" * 501},
        {"message": "\x1b[31mred"},
        {"path": "x" * 2049},
        {"path": "https://me:hunter2@models.example.com/7"},
        {"token": "x"},
    ):
        refused(await report(team, work, token, body), 422, "invalid_request")
    assert (await team.get(work))["checkpoint"] is None
