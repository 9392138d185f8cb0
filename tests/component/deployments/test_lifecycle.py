"""Updates, starts, stops, cancellations and deletions of deployments."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from hypervisor.store.tables import Attempt, Deployment, NominationRow
from tests.support.api import ok, refused
from tests.support.teams import Team

DEPLOYMENTS = "/api/v1/deployments"


def path(deployment: dict[str, Any], below: str = "") -> str:
    return f"{DEPLOYMENTS}/{deployment['id']}{below}"


async def last_attempt(team: Team, deployment: dict[str, Any]) -> Attempt:
    async with team.api.services.database.read() as session:
        found = await session.scalar(
            select(Attempt).where(Attempt.deployment_id == deployment["id"]).order_by(Attempt.number.desc())
        )
    assert found is not None
    return found


async def test_a_waiting_deployment_can_change_every_field(team: Team) -> None:
    await team.cluster()
    created = await team.submit("web", env={"A": "1"}, max_runtime_seconds=60, labels={"old": "x"})
    change = {
        "name": "api",
        "docker_image": "nginx:1.27",
        "command": ["nginx"],
        "env": {"B": "2"},
        "ports": [80],
        "required_cpu_cores": 2,
        "required_ram_gb": 3,
        "required_gpu_count": 1,
        "priority": 800,
        "max_runtime_seconds": None,
        "grace_period_seconds": 1,
        "labels": {"new": "y"},
        "preemptible": False,
    }
    changed = ok(await team.developer.patch(path(created), change))
    assert {key: changed[key] for key in change} == change
    assert changed["created_at"] == created["created_at"]
    assert [e["name"] for e in ok(await team.viewer.get(f"{DEPLOYMENTS}?label=new=y"))["items"]] == ["api"]
    assert ok(await team.viewer.get(f"{DEPLOYMENTS}?label=old"))["items"] == []
    event = (await team.events(created))[-1]
    assert event["type"] == "deployment.updated"
    assert "priority (500 to 800)" in event["message"]
    assert "2" not in str(event["data"]["changed"])
    kept = ok(await team.developer.call("PUT", path(created), json={"priority": "LOW"}))
    assert {key: kept[key] for key in change if key != "priority"} == {
        key: value for key, value in change.items() if key != "priority"
    }
    refused(
        await team.developer.patch(path(created), {"required_cpu_cores": 99}), 422, "larger_than_every_node"
    )
    refused(await team.developer.patch(path(created), {"kind": "job"}), 422, "invalid_request")


async def test_a_live_deployment_can_change_a_few_fields(team: Team) -> None:
    cluster = await team.cluster()
    live = await team.running(cluster, "live")
    allowed = {"priority": "CRITICAL", "labels": {"a": "b"}, "name": "renamed", "max_retries": 9}
    changed = ok(await team.developer.patch(path(live), allowed))
    assert (changed["priority"], changed["name"], changed["max_retries"]) == (1000, "renamed", 9)
    for field, value in (("required_cpu_cores", 2), ("command", ["x"]), ("env", {}), ("depends_on", [])):
        problem = refused(await team.developer.patch(path(live), {field: value}), 409, "running")
        assert field in problem["detail"]
    await team.report(live, exit_code=0)
    assert ok(await team.developer.patch(path(live), {"required_cpu_cores": 2}))["required_cpu_cores"] == 2


async def test_changed_dependencies_block_and_unblock(team: Team) -> None:
    await team.cluster()
    parent, child = await team.submit("parent"), await team.submit("child")
    blocked = ok(await team.developer.patch(path(child), {"depends_on": ["parent"]}))
    assert (blocked["status"], blocked["queue_position"]) == ("BLOCKED", None)
    still = ok(
        await team.developer.patch(
            path(child), {"depends_on": [{"deployment": parent["id"], "condition": "running"}]}
        )
    )
    assert "to run" in still["reason"]
    free = ok(await team.developer.patch(path(child), {"depends_on": []}))
    assert (free["status"], free["depends_on"]) == ("QUEUED", [])
    moves = [(e["from_state"], e["to_state"]) for e in await team.events(child) if e["to_state"]]
    assert moves == [(None, "QUEUED"), ("QUEUED", "BLOCKED"), ("BLOCKED", "QUEUED")]


async def test_a_change_of_size_drops_reserved_capacity(team: Team) -> None:
    cluster = await team.cluster()
    await team.running(cluster, "low", priority="LOW", required_cpu_cores=4)
    high = await team.submit("high", priority="HIGH", required_cpu_cores=4)
    await team.schedule(cluster)
    async with team.api.services.database.read() as session:
        assert await session.get(NominationRow, (high["id"], 0)) is not None
    ok(await team.developer.patch(path(high), {"required_cpu_cores": 1}))
    async with team.api.services.database.read() as session:
        assert await session.get(NominationRow, (high["id"], 0)) is None


async def test_every_change_invalidates_earlier_plans(team: Team) -> None:
    await team.cluster()
    created = await team.submit("web")

    async def generation() -> int:
        async with team.api.services.database.read() as session:
            return (await session.get_one(Deployment, created["id"])).generation

    before = await generation()
    ok(await team.developer.patch(path(created), {"required_cpu_cores": 2}))
    assert await generation() > before


async def test_stop_ends_a_live_deployment_and_start_queues_it_again(team: Team) -> None:
    cluster = await team.cluster()
    live = await team.running(cluster, "live", grace_period_seconds=7)
    stopping = await team.command(live, "stop")
    assert (stopping["status"], stopping["state_after_stop"]) == ("STOPPING", "STOPPED")
    assert await team.command(live, "stop") == stopping
    attempt = await last_attempt(team, live)
    assert (attempt.stop_reason, attempt.stop_grace_seconds) == ("stopped", 7)
    refused(await team.developer.post(path(live, "/start")), 409, "still_stopping")
    await team.report(live, exit_code=143)
    assert (await team.get(live))["status"] == "STOPPED"
    assert (await team.command(live, "stop"))["status"] == "STOPPED"
    again = await team.command(live, "start")
    assert (again["status"], again["queue_position"]) == ("QUEUED", 1)
    assert await team.command(live, "start") == again
    moves = [(e["from_state"], e["to_state"]) for e in await team.events(live)]
    assert moves[-4:] == [
        ("STARTING", "RUNNING"),
        ("RUNNING", "STOPPING"),
        ("STOPPING", "STOPPED"),
        ("STOPPED", "QUEUED"),
    ]


async def test_a_stop_accepts_a_grace_period(team: Team) -> None:
    cluster = await team.cluster()
    live = await team.running(cluster, "live")
    refused(await team.developer.post(path(live, "/stop?grace_period_seconds=-1")), 422, "invalid_request")
    ok(await team.developer.post(path(live, "/stop?grace_period_seconds=0")))
    assert (await last_attempt(team, live)).stop_grace_seconds == 0


async def test_cancel_ends_queued_and_live_deployments(team: Team) -> None:
    cluster = await team.cluster()
    waiting = await team.submit("waiting")
    refused(await team.developer.post(path(waiting, "/stop")), 409, "not_running")
    cancelled = await team.command(waiting, "cancel")
    assert (cancelled["status"], cancelled["queue_position"]) == ("CANCELLED", None)
    assert cancelled["finished_at"] is not None
    live = await team.running(cluster, "live")
    assert (await team.command(live, "cancel"))["state_after_stop"] == "CANCELLED"
    await team.report(live, exit_code=143)
    assert (await team.get(live))["status"] == "CANCELLED"


async def test_a_stop_prevents_the_requeue_of_a_preempted_deployment(team: Team) -> None:
    cluster = await team.cluster()
    low = await team.running(cluster, "low", priority="LOW", required_cpu_cores=4)
    await team.submit("high", priority="HIGH", required_cpu_cores=4)
    await team.schedule(cluster)
    assert (await team.get(low))["state_after_stop"] == "QUEUED"
    assert (await team.command(low, "stop"))["state_after_stop"] == "STOPPED"
    await team.report(low, exit_code=143)
    assert (await team.get(low))["status"] == "STOPPED"


async def test_cancelling_a_parent_cancels_or_holds_its_children(team: Team) -> None:
    await team.cluster()
    parent = await team.submit("parent")
    child = await team.submit("child", depends_on=["parent"])
    grandchild = await team.submit("grandchild", depends_on=["child"])
    held = await team.submit("held", depends_on=["parent"], on_failure="hold")
    await team.command(parent, "cancel")
    assert (await team.get(child))["status"] == "CANCELLED"
    assert (await team.get(grandchild))["status"] == "CANCELLED"
    seen = await team.get(held)
    assert (seen["status"], seen["reason_code"]) == ("BLOCKED", "dependency_failed")
    assert seen["depends_on"][0]["status"] == "broken"
    refused(await team.developer.post(path(child, "/start")), 409, "dependency_failed")
    await team.command(parent, "start")
    assert (await team.get(held))["reason"].startswith("waits for parent")
    assert (await team.command(child, "start"))["status"] == "BLOCKED"
    assert (await team.command(grandchild, "start"))["status"] == "BLOCKED"


async def test_children_of_a_finished_parent_are_queued(team: Team) -> None:
    cluster = await team.cluster()
    parent = await team.running(cluster, "parent", kind="job")
    beside = await team.submit("beside", depends_on=[{"deployment": "parent", "condition": "running"}])
    child = await team.submit("child", depends_on=["parent"])
    assert (beside["status"], child["status"]) == ("QUEUED", "BLOCKED")
    await team.report(parent, exit_code=0)
    seen = await team.get(child)
    assert (seen["status"], seen["depends_on"][0]["status"]) == ("QUEUED", "met")


async def test_an_ended_deployment_is_deleted_at_once_and_keeps_its_events(team: Team) -> None:
    cluster = await team.cluster()
    done, waiting = await team.ended(cluster, "done", 0), await team.submit("waiting")
    for deployment in (waiting, done):
        assert (await team.developer.delete(path(deployment))).status_code == 204
        refused(await team.developer.get(path(deployment)), 404, "deployment_not_found")
        refused(await team.developer.delete(path(deployment)), 404, "deployment_not_found")
    events = ok(await team.viewer.get(f"/api/v1/organizations/{team.id}/events?limit=100"))["items"]
    assert [e["deployment_id"] for e in events if e["type"] == "deployment.deleted"] == [
        waiting["id"],
        done["id"],
    ]


async def test_a_live_deployment_is_stopped_before_its_deletion(team: Team) -> None:
    cluster = await team.cluster()
    live = await team.running(cluster, "live")
    for _ in range(2):
        assert (await team.developer.delete(path(live))).status_code == 202
    seen = await team.get(live)
    assert (seen["status"], seen["state_after_stop"]) == ("STOPPING", "STOPPED")
    assert seen["delete_requested_at"] is not None
    refused(await team.developer.patch(path(live), {"priority": "LOW"}), 409, "deployment_deleting")
    body = {"name": "late", "depends_on": ["live"]}
    refused(await team.developer.post(DEPLOYMENTS, body), 409, "dependency_deleting")
    await team.report(live, exit_code=143)
    refused(await team.developer.get(path(live)), 404, "deployment_not_found")


async def test_deletion_of_a_parent_in_use_needs_force(team: Team) -> None:
    await team.cluster()
    parent = await team.submit("parent")
    child = await team.submit("child", depends_on=["parent"])
    held = await team.submit("held", depends_on=["parent"], on_failure="hold")
    problem = refused(await team.developer.delete(path(parent)), 409, "has_dependents")
    assert problem["dependents"] == [child["id"], held["id"]]
    assert (await team.developer.delete(f"{path(parent)}?force=true")).status_code == 204
    for orphan in (child, held):
        seen = await team.get(orphan)
        assert (seen["status"], seen["reason_code"]) == ("CANCELLED", "dependency_deleted")


async def test_deletion_of_a_succeeded_parent_affects_no_child(team: Team) -> None:
    cluster = await team.cluster()
    done = await team.ended(cluster, "done", 0)
    other = await team.submit("other")
    child = await team.submit("child", depends_on=["done", "other"])
    assert (await team.developer.delete(path(done))).status_code == 204
    seen = await team.get(child)
    assert seen["status"] == "BLOCKED"
    assert [one["deployment_id"] for one in seen["depends_on"]] == [other["id"]]


@pytest.mark.parametrize("command", ["start", "stop", "cancel"])
async def test_commands_on_missing_or_foreign_deployments(team: Team, command: str) -> None:
    await team.cluster()
    created = await team.submit("ours")
    refused(await team.outsider.post(path(created, f"/{command}")), 404, "deployment_not_found")
    refused(await team.developer.post(f"{DEPLOYMENTS}/999999/{command}"), 404, "deployment_not_found")
    answer = await team.developer.post(f"{DEPLOYMENTS}/{2**63}/{command}")
    refused(answer, 422, "invalid_request")


async def test_only_the_given_exit_codes_are_retried(team: Team) -> None:
    cluster = await team.cluster()
    retried = await team.ended(cluster, "retried", 137, retry_exit_codes=[137])
    assert (retried["state"], retried["retries_used"]) == ("QUEUED", 1)
    failed = await team.ended(cluster, "failed", 3, retry_exit_codes=[137])
    assert (failed["state"], failed["reason_code"]) == ("FAILED", "exit_code")
    assert "retry_exit_codes allows only 137" in failed["reason"]
    change = {"retry_exit_codes": None}
    assert ok(await team.developer.patch(path(failed), change))["retry_exit_codes"] == []
